# A server on the loopback interface, 50 clients and 1,000,000 requests of each kind, then known data
# written, read back and deleted. The only argument is a free port.
set -e
port=$1
redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no > server.log 2>&1 &
server=$!
tries=0
until [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ]; then
        echo 'the server does not answer'
        cat server.log
        exit 1
    fi
    sleep 0.1
done
redis-benchmark -p "$port" -c 50 -n 1000000 -r 100000 -d 100 -t set,get --csv > benchmark.csv
grep -c -i -E '^"(set|get)"' benchmark.csv
if grep -i error benchmark.csv; then exit 1; fi
echo benchmark complete

cli() { redis-cli -p "$port" "$@"; }
cli flushall
cli eval "for i = 1, 50000 do
    redis.call('set', 'k' .. i, string.rep(i, i % 50))
    redis.call('rpush', 'l' .. i % 100, i)
    redis.call('hset', 'h' .. i % 300, i, i)
end
return redis.call('dbsize')" 0
cli get k49999
cli lrange l7 0 20
cli eval "local n = 0
for i = 1, 50000, 2 do n = n + redis.call('del', 'k' .. i) end
return n" 0
cli debug digest
cli dbsize
cli shutdown nosave
wait $server
echo server ended with $?
