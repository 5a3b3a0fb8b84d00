/* What the load generator and the limit share: the clock, text, SHA-1, file limits. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stddef.h>
#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC: every process of one machine reads the same. */
int64_t now_us(void);

/* Prints one line to stderr and ends the program with status 2. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* malloc and realloc that end the program when there is no memory. */
void *must_alloc(void *old, size_t size);

/* Raises the soft limit of open files to the hard one; returns it. */
long raise_file_limit(void);

/* Sets O_NONBLOCK. */
void set_nonblocking(int fd);

/* Nanoseconds of CPU this process has used, user and system. */
int64_t own_cpu_ns(void);

/* The value of Sec-WebSocket-Accept for a key; `out` takes 29 bytes. */
void websocket_accept(const char *key, size_t key_size, char *out);

/* A payload: "@TS:SEQ;" and filler up to `size` bytes. `out` takes max(size, 48) bytes.
   The filler is text that compresses as prose does, not one letter. */
size_t make_payload(char *out, size_t size, int64_t ts, long seq);

#endif
