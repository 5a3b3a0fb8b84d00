#include "scan.h"

#include <string.h>

/* Digits that a marker may have; more is no marker. */
#define MAX_NUMBER ((int64_t)1 << 56)

enum { LINE_START, AFTER_I, AFTER_D, ID_SPACE, ID_VALUE, EVENT_NAME, TEXT, MARK_TS, MARK_SEQ };

/* An event that repeats what was streamed, in one piece. */
static const char summary[] = "event: done";

void scan_start(struct scan *scan, int is_sse)
{
    scan->is_sse = (uint8_t)is_sse;
    scan->state = is_sse ? LINE_START : TEXT;
    scan->next_size = 0;
    scan->next[0] = 0;
}

static void end_of_line(struct scan *scan)
{
    scan->state = scan->is_sse ? LINE_START : TEXT;
}

static void dispatch(struct scan *scan)
{
    if (scan->dispatched != scan->last)
        scan->frames++;
    scan->dispatched = scan->last;
    scan->is_summary = 0;
    if (scan->next_size > 0)
        memcpy(scan->id, scan->next, sizeof scan->id);
}

static const char *skip_text(const char *at, const char *end)
{
    while (at < end && *at != '@' && *at != '\n')
        at++;
    return at;
}

static void id_byte(struct scan *scan, char c)
{
    if (c == '\r')
        return;
    if (scan->next_size < ID_SIZE - 1)
        scan->next[scan->next_size++] = c;
    scan->next[scan->next_size] = 0;
}

static void text_byte(struct scan *scan, char c)
{
    if (c == '\n') {
        end_of_line(scan);
    } else if (c == '@') {
        scan->ts = scan->seq = 0;
        scan->state = MARK_TS;
    } else {
        scan->state = TEXT;
    }
}

static void line_start_byte(struct scan *scan, char c)
{
    if (c == '\n')
        dispatch(scan);
    else if (c == 'i')
        scan->state = AFTER_I;
    else if (c == 'e')
        scan->state = EVENT_NAME, scan->matched = 1;
    else if (c != '\r')
        text_byte(scan, c);
}

static void name_byte(struct scan *scan, char c)
{
    if (scan->matched < sizeof summary - 1 && c == summary[scan->matched]) {
        scan->matched++;
        return;
    }
    scan->is_summary = scan->matched == sizeof summary - 1;
    text_byte(scan, c);
}

static void number_byte(struct scan *scan, struct conn *conn, char c)
{
    int64_t *number = scan->state == MARK_TS ? &scan->ts : &scan->seq;
    if (c >= '0' && c <= '9' && *number < MAX_NUMBER) {
        *number = *number * 10 + (c - '0');
    } else if (c == ':' && scan->state == MARK_TS && scan->ts > 0) {
        scan->state = MARK_SEQ;
    } else if (c == ';' && scan->state == MARK_SEQ && scan->seq > 0) {
        scan->state = TEXT;
        on_marker(conn, scan->ts, scan->seq);
    } else {
        text_byte(scan, c);
    }
}

void scan_feed(struct scan *scan, struct conn *conn, const char *data, size_t size)
{
    const char *end = data + size;
    for (const char *at = data; at < end; at++) {
        switch (scan->state) {
        case TEXT:
            at = skip_text(at, end);
            if (at == end)
                return;
            text_byte(scan, *at);
            break;
        case MARK_TS:
        case MARK_SEQ:
            number_byte(scan, conn, *at);
            break;
        case LINE_START:
            line_start_byte(scan, *at);
            break;
        case EVENT_NAME:
            name_byte(scan, *at);
            break;
        case AFTER_I:
            if (*at == 'd')
                scan->state = AFTER_D;
            else
                text_byte(scan, *at);
            break;
        case AFTER_D:
            if (*at != ':') {
                text_byte(scan, *at);
                break;
            }
            scan->next_size = 0;
            scan->next[0] = 0;
            scan->state = ID_SPACE;
            break;
        case ID_SPACE:
            scan->state = ID_VALUE;
            if (*at == ' ')
                break;
            /* fall through */
        case ID_VALUE:
            if (*at == '\n')
                end_of_line(scan);
            else
                id_byte(scan, *at);
            break;
        default:
            break;
        }
    }
}
