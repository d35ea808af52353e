/* An external extension, in as little as one can be: registers, asks for events, ends at SHUTDOWN. The bench compiles it. Its
   environment says what else it does:

   STAY       it stays: it says who it is and what it was told, ignores SIGTERM, and waits for SIGKILL
   SILENT     it registers for no event, and so does nothing once Init is over
   TELEMETRY  it subscribes to telemetry: a child of its reads what comes by TCP, and forgets it */

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "lambent-bench"
#define VERSION "/2020-01-01/extension/"

static int api;
static char request[4096], answer[65536], identifier[64];

/* One exchange; the answer, head and body, is in `answer`, its body is returned. */
static char *ask(void) {
    const char *rest = request;
    size_t size = 0, left = strlen(request);
    char *end, *length;
    while (left > 0) {
        ssize_t sent = write(api, rest, left);
        if (sent <= 0) exit(2);
        rest += sent;
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

static void reach(char *where) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char *port = where ? strchr(where, ':') : NULL;
    if (!port) exit(1);
    *port++ = 0;
    address.sin_port = htons((unsigned short)atoi(port));
    api = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, where, &address.sin_addr) != 1 || connect(api, (void *)&address, sizeof address)) exit(1);
}

static void enlist(const char *events) {
    char *found;
    snprintf(request, sizeof request,
             "POST " VERSION "register HTTP/1.1\r\nHost: x\r\nLambda-Extension-Name: " NAME "\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(events), events);
    ask();
    if (!(found = strcasestr(answer, "Lambda-Extension-Identifier: ")) || sscanf(found + 29, "%63[0-9a-f-]", identifier) != 1)
        exit(4);
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

static void subscribe(void) {
    const char *wanted = "{\"schemaVersion\":\"2022-12-13\",\"types\":[\"platform\",\"function\"],"
                         "\"destination\":{\"protocol\":\"TCP\",\"port\":8080}}";
    snprintf(request, sizeof request,
             "PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\nContent-Length: %zu\r\n\r\n%s",
             identifier, strlen(wanted), wanted);
    ask();
    if (!strstr(answer, "200 OK")) exit(6);
}

int main(void) {
    char *event;
    reach(getenv("AWS_LAMBDA_RUNTIME_API"));
    enlist(getenv("SILENT") ? "{\"events\":[]}" : "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}");
    if (getenv("TELEMETRY")) {
        listen_and_forget();
        subscribe();
    }
    if (getenv("STAY")) signal(SIGTERM, SIG_IGN);
    snprintf(request, sizeof request, "GET " VERSION "event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\n\r\n",
             identifier);
    while (!strstr(event = ask(), "\"SHUTDOWN\"")) {
    }
    if (!getenv("STAY")) return 0;
    printf(NAME " %d %d %s\n", (int)getuid(), (int)getpid(), event);
    fflush(stdout);
    for (;;) pause();
}
