/* An external extension, in as little as one can be: registers, asks for events, ends at SHUTDOWN. With STAY in its environment
   it stays: it says who it is and what it was told, ignores SIGTERM, and waits for SIGKILL. The bench compiles it. */

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static int api;
static char answer[65536];

/* One exchange; the answer, head and body, is in `answer`, its body is returned. */
static char *ask(const char *request) {
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
        if (length && size >= (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10)) return end + 4;
    }
}

int main(void) {
    static char request[4096], identifier[64];
    char *where = getenv("AWS_LAMBDA_RUNTIME_API"), *port, *found, *event;
    const char *body = "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}";
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (!where || !(port = strchr(where, ':'))) return 1;
    *port++ = 0;
    address.sin_port = htons((unsigned short)atoi(port));
    api = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, where, &address.sin_addr) != 1 || connect(api, (void *)&address, sizeof address)) return 1;
    snprintf(request, sizeof request,
             "POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nLambda-Extension-Name: lambent-bench\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    ask(request);
    if (!(found = strcasestr(answer, "Lambda-Extension-Identifier: ")) || sscanf(found + 29, "%63[0-9a-f-]", identifier) != 1)
        return 4;
    snprintf(request, sizeof request,
             "GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\n\r\n", identifier);
    if (getenv("STAY")) signal(SIGTERM, SIG_IGN);
    while (!strstr(event = ask(request), "\"SHUTDOWN\"")) {
    }
    if (!getenv("STAY")) return 0;
    printf("lambent-bench %d %d %s\n", (int)getuid(), (int)getpid(), event);
    fflush(stdout);
    for (;;) pause();
}
