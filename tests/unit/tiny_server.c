/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tiny_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tests/unit/fake_image.h"

struct connection {
	struct tiny_server *server;
	int fd;
};

/* One request up to its empty line; false at the end of the connection. */
static bool receive(int fd, char *buf, size_t room)
{
	size_t have = 0;

	while (have + 1 < room) {
		ssize_t n = recv(fd, buf + have, room - have - 1, 0);

		if (n <= 0) {
			return false;
		}
		have += (size_t)n;
		buf[have] = '\0';
		if (strstr(buf, "\r\n\r\n")) {
			return true;
		}
	}
	return false;
}

static bool transmit(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0) {
			return false;
		}
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool send_body(const struct tiny_server *s, int fd, uint64_t from, uint64_t to)
{
	uint64_t cut = s->cut_after ? min_u64(to, from + s->cut_after) : to;
	uint8_t piece[16384];

	while (from < cut) {
		size_t n = min_u64(sizeof(piece), cut - from);

		for (size_t i = 0; i < n; i++) {
			piece[i] = fake_byte(s->seed, from + i);
		}
		if (!transmit(fd, piece, n)) {
			return false;
		}
		from += n;
	}
	return cut == to;
}

static bool send_file(const struct tiny_server *s, int fd, const char *request)
{
	const char *range = strstr(request, "Range: bytes=");
	uint64_t size = s->size;
	uint64_t from = 0;
	uint64_t to = size;
	char head[512];
	char tag[64] = "";
	char same[64] = "";

	if (s->version) {
		snprintf(tag, sizeof(tag), "ETag: \"v%d\"\r\n", s->version);
		snprintf(same, sizeof(same), "If-None-Match: \"v%d\"\r\n", s->version);
	}
	if (same[0] && strstr(request, same)) {
		snprintf(head, sizeof(head), "HTTP/1.1 304 x\r\n%s\r\n", tag);
		return transmit(fd, head, strlen(head));
	}
	if (s->ranges && range) {
		from = strtoull(range + 13, NULL, 10);
		to = min_u64(size, strtoull(strchr(range, '-') + 1, NULL, 10) + 1);
		snprintf(head, sizeof(head),
			"HTTP/1.1 206 x\r\nContent-Length: %" PRIu64
			"\r\nContent-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n%s\r\n",
			to - from, from, to - 1, size, tag);
	} else {
		snprintf(head, sizeof(head),
			"HTTP/1.1 200 OK\r\nContent-Length: %" PRIu64 "\r\n%s\r\n", size, tag);
	}
	return transmit(fd, head, strlen(head)) && send_body(s, fd, from, to);
}

static bool send_status(int fd, int status)
{
	static const char body[20000];
	char head[128];

	snprintf(head, sizeof(head), "HTTP/1.1 %d x\r\nContent-Length: %zu\r\n\r\n", status,
		sizeof(body));
	return transmit(fd, head, strlen(head)) && transmit(fd, body, sizeof(body));
}

static bool send_redirect(int fd, const char *to)
{
	char head[256];

	snprintf(head, sizeof(head), "HTTP/1.1 302 x\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n",
		to);
	return transmit(fd, head, strlen(head));
}

static bool send_resource(const struct tiny_server *s, int fd, const char *request)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->redirects); i++) {
		const char *from = s->redirects[i].from;
		const char *to = s->redirects[i].to;

		if (from && strncmp(request + 4, from, strlen(from)) == 0 &&
			request[4 + strlen(from)] == ' ') {
			return to ? send_redirect(fd, to) : send_status(fd, 404);
		}
	}
	return send_file(s, fd, request);
}

static bool answer(struct tiny_server *s, int fd, const char *request)
{
	unsigned int now = ++s->now;
	unsigned int most = s->most;
	bool ok;

	s->requests++;
	while (now > most && !atomic_compare_exchange_weak(&s->most, &most, now)) {
	}
	usleep(s->delay_us);
	if (s->fail_next > 0) {
		s->fail_next--;
		ok = send_status(fd, s->fail_status);
	} else {
		ok = s->silent || send_resource(s, fd, request);
	}
	s->now--;
	return ok;
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	char request[8192];

	while (!c->server->quit && receive(c->fd, request, sizeof(request)) &&
		answer(c->server, c->fd, request)) {
	}
	shutdown(c->fd, SHUT_RDWR);
	free(c);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct tiny_server *s = arg;
	int one = 1;

	for (;;) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
		struct connection *c;

		if (fd < 0) {
			return NULL;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		assert(s->count < TINY_CONNECTIONS);
		c = malloc(sizeof(*c));
		*c = (struct connection){ s, fd };
		s->connections++;
		s->fds[s->count] = fd;
		pthread_create(&s->threads[s->count++], NULL, serve, c);
	}
}

struct tiny_server *tiny_server_start(void)
{
	struct tiny_server *s = calloc(1, sizeof(*s));
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->size = MIB(8);
	s->seed = 1;
	s->version = 1;
	s->ranges = true;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(s->fd, 64) < 0 || getsockname(s->fd, (struct sockaddr *)&addr, &len) < 0) {
		abort();
	}
	s->port = ntohs(addr.sin_port);
	pthread_create(&s->acceptor, NULL, accept_all, s);
	return s;
}

void tiny_server_stop(struct tiny_server *s)
{
	s->quit = true;
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->acceptor, NULL);
	for (unsigned int i = 0; i < s->count; i++) {
		shutdown(s->fds[i], SHUT_RDWR);
		pthread_join(s->threads[i], NULL);
		close(s->fds[i]);
	}
	close(s->fd);
	free(s);
}
