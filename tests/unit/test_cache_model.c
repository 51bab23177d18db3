/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations against a model: an image is its seed. Every read returns bytes of the version
 * that was opened, or an error that was injected. A failing seed is printed, and can be run alone:
 * test_cache_model SEED.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SEEDS   12U
#define STEPS   120U
#define READERS 4U
#define MOST    KIB(400)

struct model {
	const char *dir; /* NULL: in memory */
	unsigned int rand;
	uint64_t size;
	uint64_t version;
	unsigned int flags; /* of the image */
	bool sequential;
	struct cache *cache;
	struct fake_image *fake;
	struct image *img;
	_Atomic bool failing; /* reads may fail with -EIO */
	bool failed;          /* since the image was opened: a fetch of then may end only now */
};

static uint64_t draw(struct model *m, uint64_t below)
{
	return ((uint64_t)(unsigned int)rand_r(&m->rand) << 20 ^ (unsigned int)rand_r(&m->rand)) %
	       below;
}

static void open_all(struct model *m)
{
	struct cache_opts opts = {
		.dir = m->dir,
		.max_size = m->dir && draw(m, 2) ? MIB(2) : 0,
		.min_free = 1,
		.no_readahead = draw(m, 3) == 0,
		.fetches = (unsigned int)draw(m, 6),
	};

	m->failed = false;
	assert_int_equal(cache_open(&opts, &m->cache, NULL), 0);
	m->fake = fake_image_new(m->size, m->version, NULL);
	m->fake->delay_us = (unsigned int)draw(m, 2) * 200;
	m->fake->img.flags = m->sequential ? IMAGE_SEQUENTIAL : 0;
	m->fake->img.flags |= draw(m, 20) == 0 ? IMAGE_UNVERSIONED : 0;
	assert_int_equal(cache_image_open(m->cache, "the key", &m->fake->img, &m->img, NULL), 0);
}

static void close_all(struct model *m)
{
	image_close(m->img);
	cache_close(m->cache);
}

/* True: the read was right. */
static bool try_read(struct model *m, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	struct err e = { 0 };
	int r = image_read_at(m->img, buf, len, off, &e);

	for (unsigned int i = 0; r == -EIO && m->failed && !m->failing && i < 100; i++) {
		usleep(1000);
		r = image_read_at(m->img, buf, len, off, &e);
	}
	bool right = r == 0 ? fake_matches(buf, m->version, off, len)
			    : r == -EIO && m->failing && e.code == -EIO;

	if (!right) {
		fprintf(stderr, "read %zu at %llu: %d %s\n", len, (unsigned long long)off, r,
			e.text);
	}
	free(buf);
	return right;
}

static void step_read(struct model *m)
{
	uint64_t off = draw(m, m->size);
	size_t len = draw(m, min_u64(MOST, m->size - off)) + 1;

	assert_true(try_read(m, off, len));
}

struct job {
	struct model *m;
	unsigned int rand;
	bool right;
	pthread_t thread;
};

static void *reader(void *arg)
{
	struct job *j = arg;
	uint64_t at = (uint64_t)(unsigned int)rand_r(&j->rand) % j->m->size;

	for (unsigned int i = 0; i < 8; i++) {
		/* A stream half of the time. */
		uint64_t off = i % 2 ? at : (uint64_t)(unsigned int)rand_r(&j->rand) % j->m->size;
		size_t len =
			min_u64((unsigned int)rand_r(&j->rand) % KIB(130) + 1, j->m->size - off);

		j->right &= try_read(j->m, off, len);
		at = (off + len) % j->m->size;
	}
	return NULL;
}

static void with_readers(struct model *m, void (*meanwhile)(struct model *))
{
	struct job jobs[READERS];

	for (unsigned int i = 0; i < READERS; i++) {
		jobs[i] = (struct job){
			.m = m, .rand = (unsigned int)rand_r(&m->rand), .right = true
		};
		pthread_create(&jobs[i].thread, NULL, reader, &jobs[i]);
	}
	if (meanwhile) {
		meanwhile(m);
	}
	for (unsigned int i = 0; i < READERS; i++) {
		pthread_join(jobs[i].thread, NULL);
		assert_true(jobs[i].right);
	}
}

static void prune(struct model *m)
{
	uint64_t freed;

	assert_int_equal(cache_prune(m->cache, draw(m, m->size), &freed, NULL), 0);
}

static void verify(struct model *m)
{
	struct cache_verify_result result;

	assert_int_equal(cache_verify(m->cache, &result, NULL), 0);
}

static void reopen(struct model *m)
{
	close_all(m);
	open_all(m);
}

static void change_remote(struct model *m)
{
	close_all(m);
	m->version++;
	if (draw(m, 2)) {
		m->size = MIB(1) + draw(m, MIB(4));
	}
	open_all(m);
}

/* Writes junk over a random place of a file of the object. */
static void corrupt(struct model *m)
{
	static const char *const names[] = { "data", "data", "map", "meta" };
	char pattern[512];
	struct stat st;
	glob_t found;
	int fd;

	close_all(m);
	if (m->dir) {
		snprintf(pattern, sizeof(pattern), "%s/obj/*/*/%s", m->dir, names[draw(m, 4)]);
		if (glob(pattern, 0, NULL, &found) == 0) {
			uint64_t junk = draw(m, UINT64_C(1) << 40);

			fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
			assert_int_equal(fstat(fd, &st), 0);
			assert_true(pwrite(fd, &junk, sizeof(junk),
					    (off_t)draw(m, (uint64_t)st.st_size)) > 0);
			close(fd);
			globfree(&found);
		}
	}
	open_all(m);
}

static void fail_some(struct model *m)
{
	m->failing = true;
	m->fake->fail_after = draw(m, KIB(200));
	m->fake->fail_next = (int)draw(m, 5) + 1;
	with_readers(m, NULL);
	m->fake->fail_next = 0;
	m->failed = true;
	m->failing = false;
}

/* Files may not grow beyond a few granules: writing fails like on a broken disk. */
static void break_disk(struct model *m)
{
	struct rlimit before;
	struct rlimit small;

	getrlimit(RLIMIT_FSIZE, &before);
	small = before;
	small.rlim_cur = draw(m, m->size);
	setrlimit(RLIMIT_FSIZE, &small);
	with_readers(m, NULL);
	setrlimit(RLIMIT_FSIZE, &before);
}

static void step(struct model *m)
{
	switch (draw(m, 20)) {
	case 0:
		reopen(m);
		break;
	case 1:
		change_remote(m);
		break;
	case 2:
		corrupt(m);
		break;
	case 3:
		fail_some(m);
		break;
	case 4:
		break_disk(m);
		break;
	case 5:
		with_readers(m, verify);
		break;
	case 6:
		image_prefetch(m->img, draw(m, m->size), draw(m, m->size));
		break;
	case 7:
	case 8:
		with_readers(m, prune);
		break;
	case 9:
	case 10:
	case 11:
		with_readers(m, NULL);
		break;
	default:
		step_read(m);
	}
}

static void run_seed(const char *dir, unsigned int seed)
{
	struct model m = { .rand = seed, .version = seed * 1000 };

	m.dir = draw(&m, 5) ? dir : NULL;
	m.sequential = draw(&m, 4) == 0;
	m.size = MIB(1) + draw(&m, MIB(4));
	open_all(&m);
	for (unsigned int i = 0; i < STEPS; i++) {
		step(&m);
	}
	close_all(&m);
}

static unsigned int only_seed;

static void every_read_is_of_the_version_that_was_opened(void **state)
{
	unsigned int first = only_seed ? only_seed : 1;
	unsigned int last = only_seed ? only_seed : SEEDS;

	signal(SIGXFSZ, SIG_IGN);
	for (unsigned int seed = first; seed <= last; seed++) {
		fprintf(stderr, "# seed %u\n", seed);
		run_seed(*state, seed);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(every_read_is_of_the_version_that_was_opened),
	};

	only_seed = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
