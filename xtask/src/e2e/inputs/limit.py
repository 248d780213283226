# Wants 1 GiB, is told that there is none, and goes on.
try:
    block = bytearray(1 << 30)
    print("got it")
except MemoryError:
    print("MemoryError")
print(len(bytearray(1 << 20)), "bytes are fine")
