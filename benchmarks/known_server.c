/* A server of chat completions whose send times are known.

     known_server FIRST_MS GAP_MS [bare]

   Prints the port that it listens on (127.0.0.1). A POST is answered with server-sent events over keep-alive: headers and
   a role event at once ("bare": no role event), the first token FIRST_MS after the request was read, then one token each
   GAP_MS, `max_tokens` of them, then finish reason, usage and [DONE]. When it is behind, an answer's tokens that are due go
   in one write. The first token's text is "#<serial>", by which a client's numbers find their entry in the log. GET /log
   returns the log and empties it:

     per answer: int64 serial, tokens, arrival_ns, then tokens x int64 before_ns, then tokens x int64 after_ns

   on CLOCK_MONOTONIC, which Python calls perf_counter. `arrival_ns` is the kernel's time stamp of the read that
   completed the request; a token was handed to the network between its `before_ns` and its `after_ns`. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 4096, MAX_REQUEST = 65536, MAX_EVENT = 1024, MAX_AT_ONCE = 16 };

struct stream {
    int is_open, tokens, sent;
    int64_t serial, arrival, due;
    int64_t *before, *after; /* of the answer under way; NULL between answers */
    size_t length;
    char *request;
};

static struct stream streams[MAX_FD];
static int highest = -1, epoll_fd, timer_fd, names_role = 1;
static int64_t first_ns, gap_ns, serials, timer_at;
static char *log_bytes;
static size_t log_length, log_room;

static const char *HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char *EVENT = "data: {\"id\":\"chatcmpl-%lld\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                           "\"model\":\"known\",\"choices\":[{\"index\":0,\"delta\":%s,\"logprobs\":null,"
                           "\"finish_reason\":%s}]}\n\n";
static const char *USAGE = "data: {\"id\":\"chatcmpl-%lld\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                           "\"model\":\"known\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":%d,"
                           "\"total_tokens\":%d}}\n\n";
static const char *MODELS = "{\"object\":\"list\",\"data\":[{\"id\":\"known\",\"object\":\"model\"}]}";

static void stop(const char *what) {
    perror(what);
    exit(1);
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* CLOCK_REALTIME minus CLOCK_MONOTONIC, from the tightest of five readings. */
static int64_t realtime_offset(void) {
    int64_t tightest = INT64_MAX, offset = 0;
    for (int i = 0; i < 5; i++) {
        int64_t before = now_ns(), wall = clock_ns(CLOCK_REALTIME), after = now_ns();
        if (after - before < tightest) {
            tightest = after - before;
            offset = wall - (before + after) / 2;
        }
    }
    return offset;
}

static void hand_over(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t done = send(fd, data, size, MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN) { /* only the log is larger than a socket's buffer */
            usleep(1000);
            continue;
        }
        if (done < 0) return; /* the client has gone; epoll says so next */
        data += done;
        size -= (size_t)done;
    }
}

/* Append one HTTP chunk that holds the formatted text. */
static size_t chunk(char *to, const char *format, ...) {
    char text[MAX_EVENT];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    return (size_t)sprintf(to, "%x\r\n%s\r\n", size, text);
}

static void answer_plain(int fd, const char *type, const char *body, size_t size) {
    char head[256];
    int length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, size);
    hand_over(fd, head, (size_t)length);
    hand_over(fd, body, size);
}

static void keep(const void *data, size_t size) {
    while (log_length + size > log_room) {
        log_room = log_room ? 2 * log_room : 1 << 20;
        if (!(log_bytes = realloc(log_bytes, log_room))) stop("log");
    }
    memcpy(log_bytes + log_length, data, size);
    log_length += size;
}

static void begin(int fd, struct stream *s, const char *body) {
    char text[2 * MAX_EVENT];
    const char *limit = strstr(body, "_tokens\":"); /* max_tokens or max_completion_tokens */
    s->tokens = limit ? atoi(limit + strlen("_tokens\":")) : 16;
    if (s->tokens < 1) s->tokens = 1;
    s->serial = ++serials;
    s->sent = 0;
    s->before = malloc((size_t)s->tokens * sizeof *s->before);
    s->after = malloc((size_t)s->tokens * sizeof *s->after);
    if (!s->before || !s->after) stop("answer");
    s->due = now_ns() + first_ns;
    size_t size = (size_t)sprintf(text, "%s", HEAD);
    if (names_role)
        size += chunk(text + size, EVENT, (long long)s->serial, "{\"role\":\"assistant\",\"content\":\"\"}", "null");
    hand_over(fd, text, size);
}

static void end(int fd, struct stream *s) {
    char text[4 * MAX_EVENT];
    size_t size = chunk(text, EVENT, (long long)s->serial, "{}", "\"length\"");
    size += chunk(text + size, USAGE, (long long)s->serial, s->tokens, 8 + s->tokens);
    size += chunk(text + size, "data: [DONE]\n\n");
    size += (size_t)sprintf(text + size, "0\r\n\r\n");
    int64_t entry[] = {s->serial, s->tokens, s->arrival};
    keep(entry, sizeof entry);
    keep(s->before, (size_t)s->tokens * sizeof *s->before);
    keep(s->after, (size_t)s->tokens * sizeof *s->after);
    free(s->before);
    free(s->after);
    s->before = NULL;
    hand_over(fd, text, size);
}

/* Send what is due of an answer in one write: one token, or several when this server is behind. */
static void tokens(int fd, struct stream *s) {
    char text[MAX_AT_ONCE * MAX_EVENT], delta[64];
    size_t size = 0;
    int first = s->sent;
    for (int64_t now = now_ns(); s->due <= now && s->sent < s->tokens && s->sent - first < MAX_AT_ONCE; s->sent++) {
        if (s->sent)
            strcpy(delta, "{\"content\":\" word\"}");
        else
            sprintf(delta, "{\"content\":\"#%lld\"}", (long long)s->serial);
        size += chunk(text + size, EVENT, (long long)s->serial, delta, "null");
        s->due += gap_ns;
    }
    int64_t before = now_ns();
    hand_over(fd, text, size);
    int64_t after = now_ns();
    for (int i = first; i < s->sent; i++) {
        s->before[i] = before;
        s->after[i] = after;
    }
    if (s->sent == s->tokens) end(fd, s);
}

static void hang_up(int fd, struct stream *s) {
    close(fd);
    if (s->before) {
        free(s->before);
        free(s->after);
    }
    free(s->request);
    memset(s, 0, sizeof *s);
}

/* Read what has come and remember when the kernel had it. */
static ssize_t receive(int fd, struct stream *s) {
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec room = {s->request + s->length, MAX_REQUEST - s->length - 1};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t size = recvmsg(fd, &message, 0);
    if (size <= 0) return size;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    s->arrival = now_ns();
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec stamp;
        memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
        s->arrival = (int64_t)stamp.tv_sec * 1000000000 + stamp.tv_nsec - realtime_offset();
    }
    s->length += (size_t)size;
    s->request[s->length] = 0;
    return size;
}

static void serve(int fd, struct stream *s) {
    ssize_t size = receive(fd, s);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        hang_up(fd, s);
        return;
    }
    char *body = strstr(s->request, "\r\n\r\n");
    if (!body) return;
    body += 4;
    const char *length = strcasestr(s->request, "\r\ncontent-length:");
    size_t wanted = length ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    if (s->length < (size_t)(body - s->request) + wanted) return;
    s->length = 0;
    if (!strncmp(s->request, "POST ", 5)) {
        begin(fd, s, body);
    } else if (strstr(s->request, "/log ")) {
        answer_plain(fd, "application/octet-stream", log_bytes, log_length);
        log_length = 0;
    } else {
        answer_plain(fd, "application/json", MODELS, strlen(MODELS));
    }
}

static void welcome(int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
        memset(&streams[fd], 0, sizeof streams[fd]);
        streams[fd].is_open = 1;
        if (!(streams[fd].request = malloc(MAX_REQUEST))) stop("request");
        if (fd > highest) highest = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Send every token that is due and set the timer for the next. */
static void keep_time(void) {
    int64_t next = INT64_MAX;
    for (int fd = 0; fd <= highest; fd++) {
        struct stream *s = &streams[fd];
        if (!s->before) continue;
        if (s->due <= now_ns()) tokens(fd, s);
        if (s->before && s->due < next) next = s->due;
    }
    if (next == timer_at) return;
    timer_at = next;
    struct itimerspec at = {0};
    if (next != INT64_MAX) {
        at.it_value.tv_sec = next / 1000000000;
        at.it_value.tv_nsec = next % 1000000000;
    }
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "known_server FIRST_MS GAP_MS [bare]\n");
        return 2;
    }
    names_role = argc == 3;
    first_ns = (int64_t)(atof(argv[1]) * 1e6);
    gap_ns = (int64_t)(atof(argv[2]) * 1e6);
    prctl(PR_SET_PDEATHSIG, 15);
    prctl(PR_SET_TIMERSLACK, 1);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)) stop("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    struct epoll_event ready[256];
    for (;;) {
        int count = epoll_wait(epoll_fd, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            uint64_t expired;
            if (fd == listener)
                welcome(listener);
            else if (fd == timer_fd)
                timer_at = read(timer_fd, &expired, sizeof expired) > 0 ? 0 : timer_at;
            else if (streams[fd].is_open)
                serve(fd, &streams[fd]);
        }
        keep_time();
    }
}
