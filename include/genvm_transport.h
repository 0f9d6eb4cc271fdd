/* The streams of genvm-transport for C: connect or listen, read, write, close.
 *
 * Made by cbindgen from src/capi/mod.rs; a test compares the two.
 *
 *   cargo rustc --release --lib --features capi,shm --crate-type cdylib     builds target/release/libgenvm_transport.so
 *   cc program.c -Iinclude -Ltarget/release -lgenvm_transport
 *
 * Each function returns what became of it, and `genvm_last_error` says it in words. Any function may be called from any
 * thread; one stream serves one call at a time. The side that connects has to speak first.
 */

#ifndef GENVM_TRANSPORT_H
#define GENVM_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

/**
 * What every function returns. `genvm_last_error` says more.
 */
typedef enum {
  /**
   * It was done.
   */
  GENVM_OK = 0,
  /**
   * A pointer is null.
   */
  GENVM_NULL = 1,
  /**
   * There is no such handle: it was closed, or never was one.
   */
  GENVM_NO_HANDLE = 2,
  /**
   * Another thread is in a call on this stream. Nothing was done.
   */
  GENVM_BUSY = 3,
  /**
   * An argument makes no sense: an address that is none, or that this build has no transport for.
   */
  GENVM_ARGUMENT = 4,
  /**
   * Connecting or listening failed; or accepting, and may be tried again.
   */
  GENVM_FAILED = 5,
  /**
   * A read or write timeout expired. The stream is as good as before.
   */
  GENVM_TIMED_OUT = 6,
  /**
   * The peer is gone, or the listener was closed.
   */
  GENVM_CLOSED = 7,
  /**
   * The peer broke the transport's protocol. The stream is dead.
   */
  GENVM_INVALID_DATA = 8,
  /**
   * The system refused. The stream is dead.
   */
  GENVM_IO = 9,
  /**
   * A defect in this library. The stream, if it was about one, is closed.
   */
  GENVM_PANIC = 10,
} genvm_status;

/**
 * A stream. Never zero, and never given out twice.
 */
typedef uint64_t genvm_stream;

/**
 * A listener. Never zero, and never given out twice.
 */
typedef uint64_t genvm_listener;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The number of this interface: 1. It changes when a program that was compiled against an older header would break.
 */
uint32_t genvm_abi_version(void);

/**
 * Connects to `address`, such as `unix:///run/host.sock` or `shm:///run/host.sock`, and stores the stream. Waits five seconds
 * at most; for shared memory, one of them for the host to accept and read.
 *
 * # Safety
 * `address` is null or a text that ends with a NUL; `stream` is null or leads to a `genvm_stream`.
 */
genvm_status genvm_connect(const char *address,
                           genvm_stream *stream);

/**
 * `genvm_connect` with other choices: `name=value`, separated by commas, such as `wait=adaptive,fallback=plain`. Null or empty is none.
 * Whatever is not known is `GENVM_ARGUMENT`.
 *
 * | name | value | if it is not given |
 * | --- | --- | --- |
 * | `wait` | how this end waits: `park` sleeps at once, `adaptive` polls first, `spin` never sleeps | `park` for sockets, `adaptive` for shared memory |
 * | `ring-kib` | KiB of the ring that this end writes into, a power of two | 128 |
 * | `timeout-ms` | how long connecting may take | 5000 |
 * | `fallback` | what becomes of `shm://` if the host has no shared memory: `fail`, or the `plain` socket | `fail` |
 * | `users` | whose host is accepted: `any`, `same` as this process's user, or ids such as `1000+1001` | `any` |
 * | `upgrades` | whether `unix://` asks for shared memory first, in a library built with `prefer-shm`: `yes` or `no` | `yes` |
 *
 * # Safety
 * As for `genvm_connect`; `options` is null or a text that ends with a NUL.
 */
genvm_status genvm_connect_with(const char *address,
                                const char *options,
                                genvm_stream *stream);

/**
 * Listens on `address` and stores the listener. It lets in processes of this process's user only. At `shm://`, and at `unix://` in a
 * library that knows shared memory, it serves plain clients and those that ask for shared memory: the connecting side has to speak first.
 *
 * # Safety
 * As for `genvm_connect`.
 */
genvm_status genvm_listen(const char *address,
                          genvm_listener *listener);

/**
 * `genvm_listen` with other choices, written as for `genvm_connect_with`:
 *
 * | name | value | if it is not given |
 * | --- | --- | --- |
 * | `wait`, `ring-kib` | as there, of every accepted stream | as there |
 * | `users` | who may connect: `same` as this process's user, `any`, or ids such as `1000+1001` | `same` |
 * | `mode` | permissions of the socket's file, octal; another user's client needs to write it | `0600` |
 * | `upgrades` | whether `unix://` serves clients that ask for shared memory as well: `yes` or `no` | `yes` |
 *
 * # Safety
 * As for `genvm_listen`; `options` is null or a text that ends with a NUL.
 */
genvm_status genvm_listen_with(const char *address, const char *options, genvm_listener *listener);

/**
 * Waits for the next client and stores its stream. Several threads may wait. `GENVM_FAILED` is one client's misfortune: accept
 * again.
 *
 * # Safety
 * `stream` is null or leads to a `genvm_stream`.
 */
genvm_status genvm_accept(genvm_listener listener,
                          genvm_stream *stream);

/**
 * Stops listening and removes the socket's file, which nobody does when the process just ends. Whoever waits in `genvm_accept` gets
 * `GENVM_CLOSED`. Accepted streams live on.
 */
genvm_status genvm_listener_close(genvm_listener listener);

/**
 * Reads at least one byte and at most `length`, fewer where fewer are there, and stores how many. Zero bytes are the end: the peer
 * closed, and all that it wrote was read. (With a `length` of 0 nothing is done.) What was written before is flushed first.
 *
 * # Safety
 * `data` is null or leads to `length` bytes that nobody else touches meanwhile; they need not be initialised. `done` is null or leads
 * to a `size_t`.
 */
genvm_status genvm_read(genvm_stream stream,
                        uint8_t *data,
                        size_t length,
                        size_t *done);

/**
 * Writes all of `length` bytes, which may be kept back until `genvm_flush` or `genvm_read`, and stores how many were taken: all of
 * them with `GENVM_OK`, else as many as went before it failed.
 *
 * # Safety
 * `data` is null or leads to `length` bytes, initialised, that nobody changes meanwhile. `done` is null or leads to a `size_t`.
 */
genvm_status genvm_write(genvm_stream stream,
                         const uint8_t *data,
                         size_t length,
                         size_t *done);

/**
 * Makes what was written readable for the peer, and wakes it if it sleeps.
 */
genvm_status genvm_flush(genvm_stream stream);

/**
 * How many milliseconds a `genvm_read` may wait; 0, as at first: for ever.
 */
genvm_status genvm_set_read_timeout(genvm_stream stream, uint32_t milliseconds);

/**
 * How many milliseconds each wait of a `genvm_write` or `genvm_flush` may last; 0, as at first: for ever.
 */
genvm_status genvm_set_write_timeout(genvm_stream stream, uint32_t milliseconds);

/**
 * Closes a stream. What was written is flushed, as far as that needs no waiting. `GENVM_BUSY`, and not closed, while another thread
 * is in a call on it: a thread that has to be stopped needs a timeout.
 */
genvm_status genvm_close(genvm_stream stream);

/**
 * Copies why this thread's last call that failed did so: a text in English that ends with a NUL, cut to `capacity` bytes, the NUL
 * included, between two characters of UTF-8. Stores in `length` how long the whole text is, without the NUL. Empty if no call of this thread failed. Is
 * itself not such a call.
 *
 * # Safety
 * `text` is null or leads to `capacity` bytes; `length` is null or leads to a `size_t`.
 */
genvm_status genvm_last_error(char *text,
                              size_t capacity,
                              size_t *length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GENVM_TRANSPORT_H */
