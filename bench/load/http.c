/*
 * The parser of responses declared in http.h: line by line, as connection.c hands over what arrived.
 *
 * Invariant: between calls `line` holds the beginning of a line without its LF, and in a body or chunk
 * `body_left` is more than zero.
 */
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The value of the header `name` (with its colon) if `line` is that header, else NULL. */
static const char *header_value(const char *line, size_t length, const char *name, size_t name_length)
{
    if (length < name_length || strncasecmp(line, name, name_length) != 0)
        return NULL;
    const char *value = line + name_length;
    while (*value == ' ' || *value == '\t')
        value++;
    return value;
}

#define HEADER_VALUE(line, length, name) header_value(line, length, name, sizeof(name) - 1)

static enum http_progress end_of_headers(struct http_response *response)
{
    if (response->status == 204 || response->status == 304)
        return HTTP_DONE;
    if (response->chunked) {
        response->state = HTTP_CHUNK_SIZE;
        return HTTP_MORE;
    }
    if (!response->has_length)
        return HTTP_MALFORMED; /* a body that ends with the connection: no server here sends it */
    response->state = HTTP_BODY;
    return response->body_left ? HTTP_MORE : HTTP_DONE;
}

static void take_header(struct http_response *response, const char *line, size_t length)
{
    const char *value;
    if ((value = HEADER_VALUE(line, length, "Content-Length:"))) {
        char *end;
        response->body_left = strtoull(value, &end, 10);
        response->has_length = end != value;
    } else if ((value = HEADER_VALUE(line, length, "Transfer-Encoding:"))) {
        response->chunked = strcasecmp(value, "chunked") == 0;
    }
}

/* One line without its CR LF, ended by a zero byte. */
static enum http_progress take_line(struct http_response *response, const char *line, size_t length)
{
    char *end;
    switch (response->state) {
    case HTTP_STATUS_LINE:
        if (length < 12 || memcmp(line, "HTTP/1.", 7) != 0)
            return HTTP_MALFORMED;
        response->status = atoi(line + 9);
        response->state = HTTP_HEADERS;
        return HTTP_MORE;
    case HTTP_HEADERS:
        if (!length)
            return end_of_headers(response);
        take_header(response, line, length);
        return HTTP_MORE;
    case HTTP_CHUNK_SIZE:
        response->body_left = strtoull(line, &end, 16);
        if (end == line)
            return HTTP_MALFORMED;
        response->state = response->body_left ? HTTP_CHUNK_DATA : HTTP_TRAILERS;
        return HTTP_MORE;
    case HTTP_CHUNK_END:
        response->state = HTTP_CHUNK_SIZE;
        return length ? HTTP_MALFORMED : HTTP_MORE;
    case HTTP_TRAILERS:
        return length ? HTTP_MORE : HTTP_DONE;
    default:
        return HTTP_MALFORMED;
    }
}

static bool in_body(const struct http_response *response)
{
    return response->state == HTTP_BODY || response->state == HTTP_CHUNK_DATA;
}

/* Appends up to and including the next LF to the line, and takes the line if it is whole. */
static enum http_progress take_text(struct http_response *response, const char *data, size_t length,
                                    size_t *taken)
{
    const char *newline = memchr(data, '\n', length);
    size_t piece = newline ? (size_t)(newline - data) + 1 : length;
    if (response->line_length + piece >= HTTP_LINE_MAX)
        return HTTP_MALFORMED;
    memcpy(response->line + response->line_length, data, piece);
    response->line_length += piece;
    *taken = piece;
    if (!newline)
        return HTTP_MORE;
    size_t end = response->line_length - 1;
    if (end && response->line[end - 1] == '\r')
        end--;
    response->line[end] = '\0';
    response->line_length = 0;
    return take_line(response, response->line, end);
}

enum http_progress http_take(struct http_response *response, const char *data, size_t length, size_t *taken)
{
    size_t position = 0;
    enum http_progress progress = HTTP_MORE;
    while (position < length && progress == HTTP_MORE) {
        size_t piece = 0;
        if (in_body(response)) {
            size_t left = length - position;
            piece = response->body_left < left ? (size_t)response->body_left : left;
            response->body_left -= piece;
            if (response->body_left == 0) {
                if (response->state == HTTP_BODY)
                    progress = HTTP_DONE;
                else
                    response->state = HTTP_CHUNK_END;
            }
        } else {
            progress = take_text(response, data + position, length - position, &piece);
        }
        position += piece;
    }
    *taken = position;
    return progress;
}
