/* A program in C against the library: what it carries, and what it says to mistakes.
 * smoke ADDRESS: connects to a host that echoes. */
#include "genvm_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                       \
    do {                                                                  \
        if (!(what)) {                                                    \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what);    \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

int main(int argc, char **argv) {
    genvm_stream stream = 0;
    genvm_listener listener = 0;
    size_t done = 99;
    char text[200];
    unsigned char sent[100000], received[100000];

    CHECK(argc == 2);
    CHECK(genvm_abi_version() == 1);

    /* Null pointers. */
    CHECK(genvm_connect(NULL, &stream) == GENVM_NULL);
    CHECK(genvm_connect(argv[1], NULL) == GENVM_NULL);
    CHECK(genvm_listen(NULL, &listener) == GENVM_NULL);
    CHECK(genvm_last_error(NULL, sizeof text, &done) == GENVM_NULL);
    CHECK(genvm_last_error(text, sizeof text, NULL) == GENVM_NULL);

    /* The text of an error, whole and cut. */
    CHECK(genvm_connect("nonsense", &stream) == GENVM_ARGUMENT);
    CHECK(stream == 0);
    CHECK(genvm_last_error(text, sizeof text, &done) == GENVM_OK);
    CHECK(strlen(text) == done && strncmp(text, "`nonsense` is no host address", 29) == 0);
    CHECK(genvm_last_error(text, 5, &done) == GENVM_OK);
    CHECK(strcmp(text, "`non") == 0 && done > 29);
    text[0] = 'x';
    CHECK(genvm_last_error(text, 0, &done) == GENVM_OK);
    CHECK(text[0] == 'x');
    CHECK(genvm_connect("unix:///nowhere/to/be/found", &stream) == GENVM_FAILED);
    CHECK(genvm_connect("quic://x", &stream) == GENVM_ARGUMENT);
    CHECK(genvm_connect("unix:///\xff", &stream) == GENVM_ARGUMENT);

    /* Options. */
    CHECK(genvm_connect_with(argv[1], "wait=never", &stream) == GENVM_ARGUMENT);
    CHECK(genvm_listen_with(NULL, "users=any,mode=0666", &listener) == GENVM_NULL);

    /* Bytes there and back. */
    CHECK(genvm_connect_with(argv[1], "wait=adaptive", &stream) == GENVM_OK);
    CHECK(genvm_set_read_timeout(stream, 60000) == GENVM_OK);
    CHECK(genvm_set_write_timeout(stream, 60000) == GENVM_OK);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (unsigned char)(i * 31 % 251);
    CHECK(genvm_write(stream, NULL, 1, &done) == GENVM_NULL);
    CHECK(genvm_write(stream, sent, 1, NULL) == GENVM_NULL);
    for (size_t length = 1; length <= sizeof sent; length *= 10) {
        size_t got = 0;
        CHECK(genvm_write(stream, sent, length, &done) == GENVM_OK && done == length);
        CHECK(genvm_flush(stream) == GENVM_OK);
        while (got < length) {
            CHECK(genvm_read(stream, received + got, length - got, &done) == GENVM_OK && done > 0);
            got += done;
        }
        CHECK(memcmp(sent, received, length) == 0);
    }
    CHECK(genvm_read(stream, NULL, 1, &done) == GENVM_NULL);
    CHECK(genvm_set_read_timeout(stream, 1) == GENVM_OK);
    CHECK(genvm_read(stream, received, 1, &done) == GENVM_TIMED_OUT);

    /* A handle that was closed. */
    CHECK(genvm_close(stream) == GENVM_OK);
    CHECK(genvm_close(stream) == GENVM_NO_HANDLE);
    CHECK(genvm_read(stream, received, 1, &done) == GENVM_NO_HANDLE);
    CHECK(genvm_write(stream, sent, 1, &done) == GENVM_NO_HANDLE && done == 0);
    CHECK(genvm_flush(0) == GENVM_NO_HANDLE);
    CHECK(genvm_listener_close(7) == GENVM_NO_HANDLE);
    puts("smoke passed");
    return 0;
}
