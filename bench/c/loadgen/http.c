#define _GNU_SOURCE
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../common.h"

void http_start(struct http *http)
{
    http_end(http);
    memset(http, 0, sizeof *http);
}

void http_end(struct http *http)
{
    free(http->head);
    http->head = NULL;
    http->head_size = 0;
}

static int has_prefix(const char *line, const char *name, const char **value)
{
    size_t size = strlen(name);
    if (strncasecmp(line, name, size) != 0)
        return 0;
    *value = line + size;
    while (**value == ' ')
        (*value)++;
    return 1;
}

static void parse_line(struct http *http, const char *line)
{
    const char *value;
    if (has_prefix(line, "Transfer-Encoding:", &value)) {
        http->chunked = strcasestr(value, "chunked") != NULL;
    } else if (has_prefix(line, "Content-Length:", &value)) {
        http->has_length = 1;
        http->left = strtoull(value, NULL, 10);
    } else if (has_prefix(line, "Sec-WebSocket-Accept:", &value)) {
        size_t size = strcspn(value, " \t");
        if (size < sizeof http->accept) {
            memcpy(http->accept, value, size);
            http->accept[size] = 0;
        }
    } else if (has_prefix(line, "Sec-WebSocket-Extensions:", &value)) {
        http->deflate = strcasestr(value, "permessage-deflate") != NULL;
    }
}

static int parse_head(struct http *http)
{
    char *line = http->head;
    if (strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 12)
        return -1;
    http->status = atoi(line + 9);
    for (char *end = strstr(line, "\r\n"); end != NULL; end = strstr(line, "\r\n")) {
        *end = 0;
        parse_line(http, line);
        line = end + 2;
    }
    if (http->status == 204 || http->status == 304)
        http->has_length = 1, http->left = 0;
    if (http->chunked)
        http->state = HTTP_SIZE, http->left = 0;
    else if (http->has_length && http->left == 0)
        http->state = HTTP_DONE;
    else
        http->state = HTTP_DATA;
    return 0;
}

long http_head(struct http *http, const char *data, size_t size)
{
    size_t before = http->head_size;
    if (before + size > HEAD_LIMIT)
        size = HEAD_LIMIT - before;
    http->head = must_alloc(http->head, before + size + 1);
    memcpy(http->head + before, data, size);
    http->head_size += size;
    http->head[http->head_size] = 0;
    char *end = strstr(http->head, "\r\n\r\n");
    if (end == NULL)
        return http->head_size < HEAD_LIMIT ? (long)size : -1;
    size_t whole = (size_t)(end - http->head) + 4;
    end[2] = 0;
    int bad = parse_head(http);
    http_end(http);
    return bad ? -1 : (long)(whole - before);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of what frames the chunks; -1 for a byte that does not belong there. */
static int framing_byte(struct http *http, char c)
{
    int digit;
    switch (http->state) {
    case HTTP_SIZE:
        digit = hex_digit(c);
        if (digit >= 0)
            http->left = http->left << 4 | (uint64_t)digit;
        else if (c == ';' || c == '\r' || c == ' ')
            http->state = HTTP_EXTENSION;
        else
            return -1;
        return 0;
    case HTTP_EXTENSION:
        if (c == '\n')
            http->state = http->left > 0 ? HTTP_DATA : HTTP_TRAILER;
        return 0;
    case HTTP_DATA_END:
        if (c == '\n')
            http->state = HTTP_SIZE;
        return c == '\n' || c == '\r' ? 0 : -1;
    default: /* HTTP_TRAILER: `left` counts the bytes of the line */
        if (c == '\n' && http->left == 0)
            http->state = HTTP_DONE;
        else if (c == '\n')
            http->left = 0;
        else if (c != '\r')
            http->left++;
        return 0;
    }
}

long http_feed(struct http *http, const char *data, size_t size, http_body body, void *owner)
{
    size_t at = 0;
    while (at < size && http->state != HTTP_DONE) {
        if (http->state != HTTP_DATA) {
            if (framing_byte(http, data[at++]) < 0)
                return -1;
            continue;
        }
        size_t part = size - at;
        int is_open = !http->chunked && !http->has_length;
        if (!is_open && part > http->left)
            part = http->left;
        body(owner, data + at, part);
        at += part;
        if (is_open)
            continue;
        http->left -= part;
        if (http->left == 0)
            http->state = http->chunked ? HTTP_DATA_END : HTTP_DONE;
    }
    return (long)at;
}
