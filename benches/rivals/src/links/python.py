"""The works of the benches in Python: python.py WORK SIZE PLACEMENT prints operations per second."""

import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.managers import SyncManager

WARM_UP, WINDOW = 0.05, 0.1
BOUND = 2000
WORKERS = 4
KEYS = 1000
BOTH = None  # sides
RECORD = (1, 1, 2.5, (3,) * 6, b"sixteen letters.")

context = multiprocessing.get_context("fork")
processors = sorted(os.sched_getaffinity(0))


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def pin(side):
    if side is BOTH:
        return confine()
    os.sched_setaffinity(0, {processors[side if PLACEMENT == "two" else 0]})


def confine():
    """To the processors of both sides."""
    os.sched_setaffinity(0, set(processors[: 2 if PLACEMENT == "two" else 1]))


def start(side, work, *arguments):
    def run():
        die_with_parent()
        pin(side)
        work(*arguments)

    process = context.Process(target=run, daemon=True)
    process.start()
    return process


def rate(call):
    """Calls per second of something done here."""
    end = time.perf_counter() + WARM_UP
    while time.perf_counter() < end:
        call()
    done, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + WINDOW:
        call()
        done += 1
    return done / (time.perf_counter() - begin)


def echo(receive, send):
    while True:
        send(receive())


def produce(send, message):
    while True:
        send(message)


def consume(receive, count):
    done = 0
    while True:
        receive()
        done += 1
        count.value = done


def crowd(producers, consumers, send, receive, message, side=1):
    """Messages per second from many to many, counted by those who get them."""
    counts = [context.RawValue("Q") for _ in range(consumers)]
    crew = [start(side, consume, receive, count) for count in counts]
    crew += [start(0, produce, send, message) for _ in range(producers)]
    time.sleep(WARM_UP)
    begin, before = time.perf_counter(), sum(count.value for count in counts)
    time.sleep(WINDOW)
    done, end = sum(count.value for count in counts) - before, time.perf_counter()
    for process in crew:
        process.kill()
    return done / (end - begin)


def pipe_round_trip():
    left, right = context.Pipe()
    start(1, echo, right.recv_bytes, right.send_bytes)
    pin(0)
    message = bytes(SIZE)
    return rate(lambda: (left.send_bytes(message), left.recv_bytes()))


def pipe_one_way():
    reader, writer = context.Pipe(duplex=False)
    return crowd(1, 1, writer.send_bytes, reader.recv_bytes, bytes(SIZE))


def pipe_typed():
    left, right = context.Pipe()
    start(1, echo, right.recv, right.send)
    pin(0)
    return rate(lambda: (left.send(RECORD), left.recv()))


def queue(producers, consumers, message):
    queue = context.Queue(BOUND if SIZE <= 4096 else 16)
    return crowd(producers, consumers, queue.put, queue.get, message)


def queue_round_trip():
    there, back = context.Queue(BOUND), context.Queue(BOUND)
    start(1, echo, there.get, back.put)
    pin(0)
    message = bytes(SIZE)
    return rate(lambda: (there.put(message), back.get()))


def nothing():
    pass


def process(method):
    """Started and joined, with SIZE bytes touched in the parent."""
    confine()
    start = multiprocessing.get_context(method)
    memory = b"\1" * SIZE

    def call():
        process = start.Process(target=nothing)
        process.start()
        process.join()

    return rate(call)


def following(x):
    return x + 1


def burn(seed):
    for _ in range(500_000):
        pass


def pool():
    confine()
    return context.Pool(WORKERS, die_with_parent)


def pool_map(count, chunk):
    workers = pool()
    return count * rate(lambda: workers.map(following, range(count), chunk))


def pool_apply():
    workers = pool()
    return rate(lambda: workers.apply(following, (41,)))


def pool_speed_up():
    workers = pool()
    workers.map(burn, range(8), 1)
    begin = time.perf_counter()
    for seed in range(8):
        burn(seed)
    middle = time.perf_counter()
    workers.map(burn, range(8), 1)
    return (middle - begin) / (time.perf_counter() - middle)


def executor(kind, count):
    """So many tasks under way at the same time."""
    confine()
    if kind is ProcessPoolExecutor:
        workers = kind(WORKERS, context, die_with_parent)
    else:
        workers = kind(WORKERS)

    def call():
        for future in [workers.submit(following, x) for x in range(count)]:
            future.result()

    return count * rate(call)


def manager():
    """Its server on the second processor."""

    def prepare():
        die_with_parent()
        pin(1)

    server = SyncManager(ctx=context)
    server.start(prepare)
    pin(0)
    return server


def manager_dict(server):
    """With a thousand values, whose keys are asked for in turns."""
    values = server.dict({key: bytes(SIZE) for key in range(KEYS)})
    return values, itertools.cycle(range(KEYS))


def manager_get():
    server = manager()
    values, keys = manager_dict(server)
    return rate(lambda: values[next(keys)])


def manager_set():
    server = manager()
    values, keys = manager_dict(server)
    value = bytes(SIZE)
    return rate(lambda: values.__setitem__(next(keys), value))


def manager_get_by_four():
    server = manager()
    values, keys = manager_dict(server)
    return crowd(0, 4, None, lambda: values[next(keys)], None, BOTH)


def manager_proxy():
    """Made with what it stands for, and dropped with it."""
    server = manager()
    return rate(server.dict)


WORKS = {
    "pipe_round_trip": pipe_round_trip,
    "pipe_one_way": pipe_one_way,
    "pipe_typed": pipe_typed,
    "queue_1_to_1": lambda: queue(1, 1, bytes(SIZE)),
    "queue_4_to_1": lambda: queue(4, 1, bytes(SIZE)),
    "queue_1_to_4": lambda: queue(1, 4, bytes(SIZE)),
    "queue_typed": lambda: queue(1, 1, RECORD),
    "queue_round_trip": queue_round_trip,
    "process_spawn": lambda: process("spawn"),
    "process_fork_server": lambda: process("forkserver"),
    "pool_map_one_by_one": lambda: pool_map(2_000, 1),
    "pool_map_chunks": lambda: pool_map(100_000, None),
    "pool_apply": pool_apply,
    "pool_speed_up": pool_speed_up,
    "executor_of_processes": lambda: executor(ProcessPoolExecutor, 1),
    "executor_of_processes_many": lambda: executor(ProcessPoolExecutor, 1_000),
    "executor_of_threads": lambda: executor(ThreadPoolExecutor, 1),
    "executor_of_threads_many": lambda: executor(ThreadPoolExecutor, 1_000),
    "manager_get": manager_get,
    "manager_set": manager_set,
    "manager_get_by_four": manager_get_by_four,
    "manager_proxy": manager_proxy,
}

if __name__ == "__main__":
    SIZE, PLACEMENT = int(sys.argv[2]), sys.argv[3]
    print(WORKS[sys.argv[1]](), flush=True)
    os._exit(0)
