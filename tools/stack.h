/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The composition root, the only place that knows all folders: a SOURCE and options become an
 *image.
 *
 *	local file:	format > file
 *	remote:		format > cache > http
 *	writable:	overlay > either of them
 *	compressed:	format > cache > decoder > ...
 *	in an archive:	format > tar > ...
 *	docker://:	format > tar > [cache > decoder >] cache > blob
 *
 * The connections and the cache are shared by the stacks of one environment and made when the first
 * remote source asks for them. They start threads: fork before.
 */
#ifndef TOOLS_STACK_H
#define TOOLS_STACK_H

#include <stdbool.h>

#include "core/err.h"
#include "core/image.h"
#include "tools/options.h"

struct stack_env;
struct sidecar;

/* -EINVAL when @o asks for what no stack can have; asks nobody. */
int stack_check(const struct options *o, struct err *e);

/* Reads the credentials that @o names (and may ask for a password). @o is borrowed until
 * stack_env_close(). -EINVAL and errors of files: the command line is to blame. */
int stack_env_open(const struct options *o, struct stack_env **ret, struct err *e);

/* The stacks opened from now on are mounted for machines to boot from: first touches are recorded
 * and replayed, images complete themselves, as the options say. --checksum is then compared when
 * all of an image is here. */
void stack_env_serve(struct stack_env *env);

/* All stacks are closed before. NULL is nothing. */
void stack_env_close(struct stack_env *env);

struct stack {
	bool local;              /* its bytes are on this machine */
	struct image *image;     /* the disk; owned */
	struct image *disk;      /* without the overlay: the same, or the layer below it */
	struct image *digest;    /* the layer in it that computes a digest, or NULL */
	char *source;            /* to show: without credentials */
	struct image *cached;    /* the layer in it that is the cache, or NULL */
	char *wrong;             /* stack.c's: the key of what is not to stay in the cache */
	char *wrong_id;          /* stack.c's: and its id */
	struct stack_env *env;   /* stack.c's */
	struct sidecar *sidecar; /* stack.c's */
};

/* What one source needs to be reached. It replaces the credentials and headers of the options; the
 * authorities come in addition. Borrowed for the call; of stacks that are served, until
 * stack_env_close(). */
struct stack_access {
	const char *user; /* NULL: none */
	const char *password;
	const char *const *headers; /* NULL-terminated; NULL: none */
	const char *ca_pem;         /* authorities (PEM); NULL: none */
	bool insecure;              /* accept any certificate */
	const char *format;         /* NULL: what the options say */
	const char *docker_config;  /* logins for registries; NULL: none */
	const char *login_from;     /* where the login is from, for messages */
	const char *platform;       /* of an image; NULL: what the options say */
};

/* Opens @source. One thread at a time for one environment. */
int stack_open(struct stack_env *env, const char *source, struct stack **ret, struct err *e);

/* The same, with what @source alone needs; NULL: what the options say. */
int stack_open_as(struct stack_env *env, const char *source, const struct stack_access *access,
	struct stack **ret, struct err *e);

/* Makes the disk of @stack writable: what is written goes into the file @overlay, which with
 * @existing must be there already, or is forgotten when it is OPTIONS_TEMPORARY. Errors as of
 * overlay_open(); the stack is as it was then. */
int stack_add_overlay(struct stack_env *env, struct stack *stack, const char *overlay,
	bool existing, struct err *e);

/* Says so when --size is given for a disk of another size, which knows better. */
void stack_warn_of_given_size(const struct stack *stack);

/* Says so when the size of the disk is only assumed. */
void stack_warn_of_size(const struct stack *stack);

/* Says so when it is known of a qcow2 that its file ends before its clusters do. Asks nobody. */
void stack_warn_of_missing_end(const struct stack *stack);

/* Says so when nobody could be asked whether the image still is what the cache has of it. */
void stack_warn_of_age(const struct stack *stack);

/* The bytes of the source are what --checksum says, or of an image (with options' check_digests)
 * the manifest, and what its layers can prove was read right: see image_prove(). Fetches what
 * nobody has read. Nobody reads the image any more. -ENOKEY, -EBADMSG: they are not, and the cache
 * will not keep them. */
int stack_verify(struct stack *stack, struct err *e);

/* Puts the record @data of boots in place of what the cache remembers: cache_image_trace_import().
 */
int stack_import_trace(struct stack *stack, const void *data, size_t len, struct err *e);

/* Does not wait for transfers under way. NULL is nothing. */
void stack_close(struct stack *stack);

/* The last part of @source, without query and suffixes of formats: "debian-12". malloc()ed. */
int stack_name(const char *source, char **ret, struct err *e);

/* @source without credentials and what else must not be shown; malloc()ed, NULL without memory. */
char *stack_display(const char *source);

/* Where the cache lies: --cache-dir, else $LAZYDISK_CACHE_DIR, else $XDG_CACHE_HOME/lazydisk, else
 * /var/cache/lazydisk for root and $HOME/.cache/lazydisk for others. *ret is NULL when there is no
 * such place. malloc()ed. */
int stack_cache_dir(const struct options *o, char **ret, struct err *e);

#endif
