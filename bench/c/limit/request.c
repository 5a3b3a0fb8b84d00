#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "limit.h"

long parameter(const char *path, const char *name, long otherwise)
{
    size_t size = strlen(name);
    for (const char *at = strpbrk(path, "?"); at != NULL; at = strpbrk(at, "&")) {
        at++;
        if (strncmp(at, name, size) == 0 && at[size] == '=')
            return strtol(at + size + 1, NULL, 10);
    }
    return otherwise;
}

const char *header_value(const char *request, const char *name, size_t *size)
{
    size_t name_size = strlen(name);
    for (const char *line = strstr(request, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, name_size) != 0 || line[name_size] != ':')
            continue;
        line += name_size + 1;
        line += strspn(line, " ");
        *size = strcspn(line, "\r");
        return line;
    }
    return NULL;
}
