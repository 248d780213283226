# The sqlite3 module: a database in memory, one in a file, functions and aggregates in Python, threads.
import sqlite3
import threading


class Longest:
    def __init__(self):
        self.text = ""

    def step(self, text):
        self.text = max(self.text, text, key=len)

    def finalize(self):
        return self.text


def fill(connection, count):
    connection.execute("create table t(id integer primary key, name text, data blob)")
    rows = ((i, f"name {i * 7919 % 1000}", bytes(i % 300)) for i in range(count))
    connection.executemany("insert into t values (?, ?, ?)", rows)
    connection.execute("create index names on t(name)")
    connection.commit()


def read(path, results, slot):
    with sqlite3.connect(path) as connection:
        query = "select count(*), sum(length(data)) from t where id % 4 = ?"
        results[slot] = connection.execute(query, (slot,)).fetchone()


memory = sqlite3.connect(":memory:")
memory.create_function("reverse", 1, lambda text: text[::-1])
memory.create_aggregate("longest", 1, Longest)
fill(memory, 20_000)
print(memory.execute("select longest(reverse(name)), count(distinct name) from t").fetchone())
print(memory.execute("select name, count(*) from t group by 1 order by 2 desc, 1 limit 3").fetchall())
try:
    memory.execute("select nothing from t")
except sqlite3.OperationalError as error:
    print("error:", error)

file = sqlite3.connect("base.db")
fill(file, 20_000)
results = [None] * 4
threads = [threading.Thread(target=read, args=("base.db", results, slot)) for slot in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(results)
memory.backup(sqlite3.connect("copy.db"))
print(len("\n".join(memory.iterdump())))
print("rows read")
