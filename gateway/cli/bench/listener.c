/* An external extension that asks for events, and with TELEMETRY in its environment is subscribed to telemetry: a child of its reads
   what comes by TCP, and forgets it. The bench compiles it. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static int api;
static char answer[65536];

/* One exchange; the answer is in `answer`. */
static void ask(const char *request) {
    size_t size = 0, left = strlen(request);
    char *end, *length;
    while (left > 0) {
        ssize_t sent = write(api, request, left);
        if (sent <= 0) exit(2);
        request += sent;
        left -= (size_t)sent;
    }
    for (;;) {
        ssize_t got = read(api, answer + size, sizeof answer - 1 - size);
        if (got <= 0) exit(3);
        size += (size_t)got;
        answer[size] = 0;
        end = strstr(answer, "\r\n\r\n");
        length = end ? strcasestr(answer, "\r\nContent-Length:") : NULL;
        if (length && size >= (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10)) return;
    }
}

static void listen_and_forget(void) {
    static char data[1 << 20];
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (void *)&here, sizeof here) || listen(server, 8)) exit(5);
    if (fork()) return;
    for (;;) {
        int connection = accept(server, NULL, NULL);
        while (read(connection, data, sizeof data) > 0) {
        }
        close(connection);
    }
}

int main(void) {
    static char request[4096], identifier[64];
    char *where = getenv("AWS_LAMBDA_RUNTIME_API"), *port, *found;
    const char *nothing = "{\"events\":[]}";
    const char *wanted = "{\"schemaVersion\":\"2022-12-13\",\"types\":[\"platform\",\"function\"],"
                         "\"destination\":{\"protocol\":\"TCP\",\"port\":8080}}";
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (!where || !(port = strchr(where, ':'))) return 1;
    *port++ = 0;
    address.sin_port = htons((unsigned short)atoi(port));
    api = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, where, &address.sin_addr) != 1 || connect(api, (void *)&address, sizeof address)) return 1;
    snprintf(request, sizeof request,
             "POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nLambda-Extension-Name: lambent-listener\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             strlen(nothing), nothing);
    ask(request);
    if (!(found = strcasestr(answer, "Lambda-Extension-Identifier: ")) || sscanf(found + 29, "%63[0-9a-f-]", identifier) != 1)
        return 4;
    if (getenv("TELEMETRY")) {
        listen_and_forget();
        snprintf(request, sizeof request,
                 "PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 identifier, strlen(wanted), wanted);
        ask(request);
        if (!strstr(answer, "200 OK")) return 6;
    }
    snprintf(request, sizeof request,
             "GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\n\r\n", identifier);
    ask(request);
    return 0;
}
