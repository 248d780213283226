# Processes made by fork and by spawn, with queues, shared memory, a manager and threads in the parent.
import multiprocessing as mp
import threading
from multiprocessing import shared_memory


def work(n):
    table = {i: str(i) * (n % 7 + 1) for i in range(2000)}
    return sum(len(text) for text in table.values()) + n


def produce(queue, count):
    for i in range(count):
        queue.put("x" * (i % 5000))
    queue.put(None)


def fill(name, value):
    block = shared_memory.SharedMemory(name=name)
    block.buf[:] = bytes([value]) * len(block.buf)
    block.close()


def churn(stop):
    while not stop.wait(0.002):
        [bytearray(n) for n in range(1, 2000, 97)]


def main():
    stop = threading.Event()
    threads = [threading.Thread(target=churn, args=(stop,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for method in ("fork", "spawn"):
        context = mp.get_context(method)
        with context.Pool(4) as pool:
            print(method, "pool", sum(pool.map(work, range(200))))
        queue = context.Queue()
        process = context.Process(target=produce, args=(queue, 3000))
        process.start()
        total = 0
        while (item := queue.get()) is not None:
            total += len(item)
        process.join()
        print(method, "queue", total, "status", process.exitcode)
        block = shared_memory.SharedMemory(create=True, size=100_000)
        process = context.Process(target=fill, args=(block.name, 7))
        process.start()
        process.join()
        print(method, "shared", sum(block.buf[:100_000]))
        block.close()
        block.unlink()
    for _ in range(50):
        process = mp.get_context("fork").Process(target=work, args=(3,))
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
    stop.set()
    for thread in threads:
        thread.join()
    print("forks 50")


if __name__ == "__main__":
    main()
