/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP relay that makes loopback behave like a longer and thinner link, without root:
 *
 *   relay --listen 127.0.0.1:0 --to HOST:PORT [--rtt-ms N] [--rate BYTES_PER_S]
 *
 * Each direction is one link of --rate, shared by all connections in order of arrival, and half of
 * the round-trip time long. Setting up a connection costs a whole one: the kernel has accepted it
 * already, so what the client says first leaves an RTT later. Slow start, loss and windows smaller
 * than the bandwidth-delay product are not modelled. Prints its port; on SIGTERM or SIGINT prints
 * what it carried ("connections N up BYTES down BYTES") and ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"

#define CONNS_MAX 512
#define SEGS_MAX  4096U /* of one pipe, a power of two */
#define READ_MAX  65536U
#define NS_PER_S  1000000000ULL
#define NS_PER_MS 1000000ULL
#define NEVER     UINT64_MAX

/* What may wait in front of a link, and how late this process may wake up before the link has lost
 * capacity that it should have used. */
#define LINK_QUEUE_NS (3 * NS_PER_MS)
#define LINK_LATE_NS  (50 * NS_PER_MS)

/* One direction of the wire, shared by all connections. */
struct link {
	uint64_t rate;       /* bytes a second; 0: no limit */
	uint64_t busy_until; /* when the last byte that was taken has left */
	bool backlogged;     /* bytes have been waiting for it ever since it was last full */
	bool refused, took;  /* in this turn */
	uint64_t carried;
};

/* Bytes that arrived together and are due together. */
struct seg {
	uint64_t end; /* position in the stream */
	uint64_t due;
};

/* One direction of one connection: a ring of bytes, and when they are due. */
struct pipe {
	struct link *link;
	uint8_t *buf;
	uint64_t head, tail; /* positions in the stream: written to and read from the sockets */
	struct seg segs[SEGS_MAX];
	uint32_t seg_head, seg_tail; /* free-running */
	uint64_t not_before;         /* the first byte does not leave earlier */
	uint64_t eof_due;            /* NEVER: no end seen */
	bool done;                   /* the end was passed on */
};

struct end {
	struct conn *conn;
	int fd;
	bool readable, writable;
};

struct conn {
	struct end ends[2];    /* the client, the server */
	struct pipe *pipes[2]; /* [i] reads from ends[i] and writes to the other one */
	bool broken;
};

struct relay {
	int epfd, listen_fd, signal_fd;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint64_t half_rtt;
	size_t ring; /* bytes of a pipe's ring */
	struct link links[2];
	struct conn *conns[CONNS_MAX];
	size_t count, first; /* @first moves on, so that no connection is always the first */
	uint64_t accepted;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(1);
}

/* --- a link --- */

static bool link_has_room(struct link *l, uint64_t now)
{
	bool room = l->rate == 0 || l->busy_until < now + LINK_QUEUE_NS;

	l->refused |= !room;
	return room;
}

/* Takes @n bytes at @now; returns when the last of them has left. */
static uint64_t link_take(struct link *l, size_t n, uint64_t now, uint64_t not_before)
{
	uint64_t start = now;

	l->carried += n;
	l->took = true;
	if (l->rate == 0) {
		return max_u64(now, not_before);
	}
	if (l->backlogged) {
		start = now - min_u64(now, LINK_LATE_NS);
	}
	l->busy_until = max_u64(l->busy_until, start) + (uint64_t)n * NS_PER_S / l->rate;
	return max_u64(l->busy_until, not_before);
}

static void link_turn_ends(struct link *l)
{
	l->backlogged = l->refused || (l->backlogged && l->took);
	l->refused = false;
	l->took = false;
}

/* --- one direction of a connection --- */

static struct pipe *pipe_new(const struct relay *r, struct link *link, uint64_t not_before)
{
	struct pipe *p = calloc(1, sizeof(*p));

	if (!p) {
		return NULL;
	}
	p->buf = malloc(r->ring);
	if (!p->buf) {
		free(p);
		return NULL;
	}
	p->link = link;
	p->not_before = not_before;
	p->eof_due = NEVER;
	return p;
}

static void pipe_free(struct pipe *p)
{
	if (p) {
		free(p->buf);
		free(p);
	}
}

static size_t pipe_space(const struct relay *r, const struct pipe *p)
{
	size_t at = p->tail % r->ring;
	size_t space = r->ring - (size_t)(p->tail - p->head);

	if (p->seg_tail - p->seg_head == SEGS_MAX) {
		return 0;
	}
	return min_u64(min_u64(space, r->ring - at), READ_MAX);
}

static void pipe_arrived(struct relay *r, struct pipe *p, size_t n, uint64_t now)
{
	struct seg *s = &p->segs[p->seg_tail++ % SEGS_MAX];

	p->tail += n;
	s->end = p->tail;
	s->due = link_take(p->link, n, now, p->not_before) + r->half_rtt;
}

/* Takes what @from has, up to one piece. True: something happened. */
static bool pipe_fill(struct relay *r, struct pipe *p, struct end *from, uint64_t now)
{
	size_t space = pipe_space(r, p);
	ssize_t n;

	if (!from->readable || p->eof_due != NEVER || space == 0 || !link_has_room(p->link, now)) {
		return false;
	}
	n = recv(from->fd, p->buf + p->tail % r->ring, space, 0);
	if (n > 0) {
		pipe_arrived(r, p, (size_t)n, now);
		return true;
	}
	if (n < 0 && errno == EAGAIN) {
		from->readable = false;
		return false;
	}
	p->eof_due = max_u64(max_u64(now, p->not_before), p->link->busy_until) + r->half_rtt;
	return true;
}

/* The end of what is due at @now. */
static uint64_t pipe_due_end(struct pipe *p, uint64_t now)
{
	uint64_t end = p->head;

	for (uint32_t i = p->seg_head; i != p->seg_tail && p->segs[i % SEGS_MAX].due <= now; i++) {
		end = p->segs[i % SEGS_MAX].end;
	}
	return end;
}

static void pipe_sent(struct pipe *p, size_t n)
{
	p->head += n;
	while (p->seg_head != p->seg_tail && p->segs[p->seg_head % SEGS_MAX].end <= p->head) {
		p->seg_head++;
	}
}

/* Hands over what is due. False: the connection is broken. */
static bool pipe_drain(struct relay *r, struct pipe *p, struct end *to, uint64_t now)
{
	uint64_t end = pipe_due_end(p, now);

	while (to->writable && p->head < end) {
		size_t at = p->head % r->ring;
		size_t len = min_u64(end - p->head, r->ring - at);
		ssize_t n = send(to->fd, p->buf + at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			to->writable = false;
		} else if (n < 0) {
			return false;
		} else {
			pipe_sent(p, (size_t)n);
		}
	}
	if (!p->done && p->head == p->tail && p->eof_due <= now) {
		shutdown(to->fd, SHUT_WR);
		p->done = true;
	}
	return true;
}

/* When this pipe wants to be looked at again, as far as no socket tells. */
static uint64_t pipe_next(
	const struct relay *r, const struct pipe *p, const struct end *from, const struct end *to)
{
	uint64_t next = NEVER;

	if (p->seg_head != p->seg_tail && to->writable) {
		next = p->segs[p->seg_head % SEGS_MAX].due;
	} else if (p->head == p->tail && !p->done) {
		next = p->eof_due;
	}
	if (from->readable && p->eof_due == NEVER && p->link->rate != 0 && pipe_space(r, p) > 0) {
		next = min_u64(next, p->link->busy_until - LINK_QUEUE_NS / 2);
	}
	return next;
}

/* --- connections --- */

static void conn_free(struct conn *c)
{
	for (size_t i = 0; i < 2; i++) {
		if (c->ends[i].fd >= 0) {
			close(c->ends[i].fd);
		}
		pipe_free(c->pipes[i]);
	}
	free(c);
}

static int conn_watch(struct relay *r, struct end *end)
{
	struct epoll_event ev = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = end,
	};
	int one = 1;

	setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return epoll_ctl(r->epfd, EPOLL_CTL_ADD, end->fd, &ev);
}

/* Owns @client_fd. */
static struct conn *conn_new(struct relay *r, int client_fd, uint64_t now)
{
	int server_fd = socket(r->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		die("calloc");
	}
	c->ends[0] = (struct end){ .conn = c, .fd = client_fd };
	c->ends[1] = (struct end){ .conn = c, .fd = server_fd };
	c->pipes[0] = pipe_new(r, &r->links[0], now + 2 * r->half_rtt);
	c->pipes[1] = pipe_new(r, &r->links[1], now + r->half_rtt);
	if (server_fd < 0 || !c->pipes[0] || !c->pipes[1] ||
		(connect(server_fd, (struct sockaddr *)&r->to, r->to_len) != 0 &&
			errno != EINPROGRESS) ||
		conn_watch(r, &c->ends[0]) != 0 || conn_watch(r, &c->ends[1]) != 0) {
		conn_free(c);
		return NULL;
	}
	return c;
}

static void relay_accept(struct relay *r, uint64_t now)
{
	while (r->count < CONNS_MAX) {
		int fd = accept4(r->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;

		if (fd < 0) {
			return;
		}
		c = conn_new(r, fd, now);
		if (c) {
			r->conns[r->count++] = c;
			r->accepted++;
		}
	}
}

static bool conn_ended(const struct conn *c)
{
	return c->broken || (c->pipes[0]->done && c->pipes[1]->done);
}

static void relay_reap(struct relay *r)
{
	for (size_t i = 0; i < r->count;) {
		if (conn_ended(r->conns[i])) {
			conn_free(r->conns[i]);
			r->conns[i] = r->conns[--r->count];
		} else {
			i++;
		}
	}
}

/* One turn of everybody; true while somebody has more to take. */
static bool relay_turn(struct relay *r, uint64_t now)
{
	bool more = false;

	r->first++;
	for (size_t n = 0; n < r->count; n++) {
		struct conn *c = r->conns[(r->first + n) % r->count];

		for (size_t i = 0; i < 2; i++) {
			more |= pipe_fill(r, c->pipes[i], &c->ends[i], now);
			if (!pipe_drain(r, c->pipes[i], &c->ends[!i], now)) {
				c->broken = true;
			}
		}
	}
	link_turn_ends(&r->links[0]);
	link_turn_ends(&r->links[1]);
	return more;
}

static uint64_t relay_next(const struct relay *r)
{
	uint64_t next = NEVER;

	for (size_t n = 0; n < r->count; n++) {
		const struct conn *c = r->conns[n];

		for (size_t i = 0; i < 2; i++) {
			next = min_u64(next, pipe_next(r, c->pipes[i], &c->ends[i], &c->ends[!i]));
		}
	}
	return next;
}

/* False: told to end. */
static bool relay_events(struct relay *r, const struct epoll_event *events, int n, uint64_t now)
{
	for (int i = 0; i < n; i++) {
		struct end *end = events[i].data.ptr;

		if (events[i].data.ptr == &r->signal_fd) {
			return false;
		}
		if (events[i].data.ptr == &r->listen_fd) {
			relay_accept(r, now);
			continue;
		}
		/* An error or a hang-up is learned by reading, which then does not block. */
		end->readable |= (events[i].events & ~(uint32_t)EPOLLOUT) != 0;
		end->writable |= (events[i].events & (EPOLLOUT | EPOLLERR)) != 0;
	}
	return true;
}

static void relay_run(struct relay *r)
{
	struct epoll_event events[64];
	int n = 0;

	for (;;) {
		uint64_t now = now_ns();
		uint64_t next;
		struct timespec ts = { 0 };

		if (!relay_events(r, events, n, now)) {
			return;
		}
		next = relay_turn(r, now) ? now : relay_next(r);
		relay_reap(r);
		if (next > now) {
			ts.tv_sec = (time_t)((next - now) / NS_PER_S);
			ts.tv_nsec = (long)((next - now) % NS_PER_S);
		}
		n = epoll_pwait2(
			r->epfd, events, (int)ARRAY_SIZE(events), next == NEVER ? NULL : &ts, NULL);
		if (n < 0 && errno != EINTR) {
			die("epoll_pwait2");
		}
	}
}

/* --- setting up --- */

static void resolve(const char *spec, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	char host[256];
	const char *colon = strrchr(spec, ':');
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *ai;

	if (!colon || (size_t)(colon - spec) >= sizeof(host)) {
		fprintf(stderr, "relay: '%s' is not HOST:PORT\n", spec);
		exit(2);
	}
	memcpy(host, spec, (size_t)(colon - spec));
	host[colon - spec] = '\0';
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0) {
		fprintf(stderr, "relay: cannot resolve '%s'\n", spec);
		exit(2);
	}
	memcpy(ret, ai->ai_addr, ai->ai_addrlen);
	*ret_len = ai->ai_addrlen;
	freeaddrinfo(ai);
}

static int listen_on(const char *spec)
{
	struct sockaddr_storage addr;
	socklen_t len;
	char port[NI_MAXSERV];
	int one = 1;
	int fd;

	resolve(spec, &addr, &len);
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
		bind(fd, (struct sockaddr *)&addr, len) != 0 || listen(fd, 128) != 0 ||
		getsockname(fd, (struct sockaddr *)&addr, &len) != 0 ||
		getnameinfo((struct sockaddr *)&addr, len, NULL, 0, port, sizeof(port),
			NI_NUMERICSERV) != 0) {
		die(spec);
	}
	printf("%s\n", port);
	fflush(stdout);
	return fd;
}

static void watch(const struct relay *r, int fd, void *key)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = key };

	if (fd < 0 || epoll_ctl(r->epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
		die("epoll_ctl");
	}
}

static double number(const char *text)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end != '\0' || !(n >= 0 && n < 1e15)) {
		fprintf(stderr, "relay: '%s' is not a number\n", text);
		exit(2);
	}
	return n;
}

static void parse(struct relay *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "to", required_argument, NULL, 't' },
		{ "rtt-ms", required_argument, NULL, 'd' },
		{ "rate", required_argument, NULL, 'r' },
		{ 0 },
	};
	const char *listen_spec = "127.0.0.1:0";
	uint64_t rate = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			listen_spec = optarg;
			break;
		case 't':
			resolve(optarg, &r->to, &r->to_len);
			break;
		case 'd':
			r->half_rtt = (uint64_t)(number(optarg) * (double)NS_PER_MS / 2);
			break;
		case 'r':
			rate = (uint64_t)number(optarg);
			break;
		default:
			exit(2);
		}
	}
	if (r->to_len == 0) {
		fprintf(stderr, "relay: --to HOST:PORT is needed\n");
		exit(2);
	}
	r->links[0].rate = rate;
	r->links[1].rate = rate;
	/* A window never smaller than what the link holds. */
	r->ring = MIB(2) + (size_t)((double)rate * (double)r->half_rtt * 4 / (double)NS_PER_S);
	r->listen_fd = listen_on(listen_spec);
}

int main(int argc, char **argv)
{
	static struct relay r;
	sigset_t signals;

	parse(&r, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	/* A wire is not slower because the machine is busy; who may not say so, does without. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	setpriority(PRIO_PROCESS, 0, -15);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	r.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	r.epfd = epoll_create1(EPOLL_CLOEXEC);
	watch(&r, r.listen_fd, &r.listen_fd);
	watch(&r, r.signal_fd, &r.signal_fd);
	relay_run(&r);
	printf("connections %llu up %llu down %llu\n", (unsigned long long)r.accepted,
		(unsigned long long)r.links[0].carried, (unsigned long long)r.links[1].carried);
	return 0;
}
