/* The cases of tests/c_library.rs: each exits with 0, or says which line does not hold. */
#define _GNU_SOURCE
#include <branch.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #what, errno); \
			_exit(99); \
		} \
	} while (0)

static pid_t pids[BR_BRANCHES_MAX];
static char names[BR_BRANCHES_MAX][BR_NAME_MAX];

static long create(unsigned flags, unsigned count)
{
	union branch_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.create.flags = flags;
	attr.create.mount_fd = -1;
	attr.create.n_branches = count;
	attr.create.child_pids = (uintptr_t)pids;
	attr.create.branch_names = (uintptr_t)names;
	return branch(BR_CREATE, &attr, sizeof attr);
}

static long commit(void)
{
	return branch(BR_COMMIT, NULL, 0);
}

static int try_put(const char *path, long number)
{
	FILE *file = fopen(path, "w");
	if (file == NULL)
		return -1;
	fprintf(file, "%ld", number);
	return fclose(file);
}

static void put(const char *path, long number)
{
	CHECK(try_put(path, number) == 0);
}

static long get(const char *path)
{
	long number = -1;
	FILE *file = fopen(path, "r");
	if (file == NULL)
		return -1;
	CHECK(fscanf(file, "%ld", &number) == 1);
	CHECK(fclose(file) == 0);
	return number;
}

/* The exit code of child i; -n after signal n, which only its init can have died of. */
static int end_of(int i)
{
	int status;
	CHECK(waitpid(pids[i], &status, 0) == pids[i]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void numbers(unsigned flags)
{
	long number = create(flags, 3);
	CHECK(number >= 0 && number <= 3);
	if (number > 0)
		_exit(number);
	for (int i = 0; i < 3; i++) {
		CHECK(strlen(names[i]) > 0);
		CHECK(end_of(i) == i + 1);
	}
}

static void commits(void)
{
	put("kept", 1);
	if (create(BR_FS | BR_MEMORY | BR_ISOLATE, 1) > 0) {
		put("made", 7);
		put("kept", 2);
		CHECK(commit() == 0);
		_exit(0);
	}
	CHECK(end_of(0) == 0);
	CHECK(get("made") == 7 && get("kept") == 2);
}

static void aborts(void)
{
	long number = create(BR_FS | BR_ISOLATE, 2);
	if (number > 0) {
		put("not made", number);
		if (number == 2) /* a child that just ends */
			_exit(0);
		branch(BR_ABORT, NULL, 0);
		_exit(98);
	}
	CHECK(end_of(0) == 125 && end_of(1) == 0);
	CHECK(get("not made") == -1);
}

static void memory(void)
{
	static int shared = 5;
	int *heap = malloc(sizeof *heap);
	*heap = 6;
	if (create(BR_FS | BR_MEMORY, 1) > 0) {
		CHECK(shared == 5 && *heap == 6);
		shared = *heap = 9;
		CHECK(commit() == 0);
		_exit(0);
	}
	CHECK(end_of(0) == 0 && shared == 5 && *heap == 6);
}

static void stale(void)
{
	int won[2];
	CHECK(pipe(won) == 0);
	long number = create(BR_FS | BR_ISOLATE, 2);
	if (number == 1) {
		CHECK(commit() == 0);
		CHECK(write(won[1], "x", 1) == 1);
		_exit(0);
	}
	if (number == 2) {
		char byte;
		/* It may be killed before it can ask. */
		CHECK(read(won[0], &byte, 1) == 1);
		_exit(commit() == -ESTALE && errno == ESTALE ? 3 : 98);
	}
	CHECK(end_of(0) == 0);
	int end = end_of(1);
	CHECK(end == 3 || end == -SIGKILL);
}

static void closed(void)
{
	int old = open("/dev/null", O_WRONLY);
	CHECK(old > 2);
	if (create(BR_FS | BR_CLOSE_FDS, 1) > 0) {
		CHECK(write(old, "x", 1) == -1 && errno == EBADF);
		put("made", 1);
		CHECK(commit() == 0);
		_exit(0);
	}
	CHECK(end_of(0) == 0 && get("made") == 1);
	CHECK(write(old, "x", 1) == 1);
}

static void invalid(void)
{
	union branch_attr attr;
	memset(&attr, 0, sizeof attr);
	CHECK(create(BR_FS, 0) == -EINVAL && errno == EINVAL);
	CHECK(create(BR_FS, BR_BRANCHES_MAX + 1) == -EINVAL);
	CHECK(create(1u << 4, 1) == -EINVAL);
	CHECK(branch(0, &attr, sizeof attr) == -EINVAL);
	CHECK(branch(4, &attr, sizeof attr) == -EINVAL);
	CHECK(branch(BR_CREATE, &attr, 23) == -EINVAL);
	CHECK(branch(BR_CREATE, NULL, sizeof attr) == -EFAULT);
	char longer[64] = { [63] = 1 };
	CHECK(branch(BR_CREATE, (union branch_attr *)longer, sizeof longer) == -E2BIG);
	CHECK(commit() == -EINVAL);
	CHECK(branch(BR_ABORT, NULL, 0) == -EINVAL);
	CHECK(chdir("/") == 0 && create(BR_FS, 1) == -ENOENT);
}

static void nested(void)
{
	long number = create(BR_FS | BR_ISOLATE, 2);
	if (number > 0) {
		put("outer", number);
		long inner = create(BR_FS | BR_ISOLATE, 2);
		CHECK(inner >= 0);
		if (inner > 0) {
			CHECK(get("outer") == number);
			put("inner", inner);
			_exit(inner == 2 ? commit() != 0 : 0);
		}
		CHECK(end_of(1) == 0);
		end_of(0);
		CHECK(get("inner") == 2);
		if (number == 2)
			_exit(0);
		CHECK(commit() == 0);
		_exit(0);
	}
	end_of(1); /* at any point of its work the other may win */
	CHECK(end_of(0) == 0);
	CHECK(get("outer") == 1 && get("inner") == 2);
}

static void sixty_four(void)
{
	long number = create(BR_FS | BR_ISOLATE, BR_BRANCHES_MAX);
	CHECK(number >= 0);
	if (number > 0) {
		put("mine", number);
		_exit(get("mine") == number ? 0 : 98);
	}
	for (int i = 0; i < BR_BRANCHES_MAX; i++)
		CHECK(end_of(i) == 0);
}

/* 3 if the create has failed as it must without a daemon, 0 if the daemon was killed too late for that. */
static int killed(void)
{
	long number = create(BR_FS | BR_ISOLATE, BR_BRANCHES_MAX);
	if (number > 0)
		for (;;)
			pause();
	if (number < 0) {
		/* The next daemon has ended the branches that had no group. */
		CHECK((number == -ENOTCONN || number == -ENOENT) && errno == -number);
		CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
		return 3;
	}
	for (int i = 0; i < BR_BRANCHES_MAX; i++) {
		CHECK(kill(pids[i], SIGKILL) == 0);
		CHECK(end_of(i) == -SIGKILL);
	}
	return 0;
}

/* Says so when all children go on; they are killed by somebody else. */
static void hold(void)
{
	long number = create(BR_FS | BR_ISOLATE, BR_BRANCHES_MAX);
	CHECK(number >= 0);
	if (number > 0)
		for (;;)
			pause();
	CHECK(write(1, "made\n", 5) == 5);
	for (int i = 0; i < BR_BRANCHES_MAX; i++)
		CHECK(end_of(i) == -SIGKILL);
}

static void race(int rounds)
{
	for (int round = 0; round < rounds; round++) {
		long number = create(BR_FS | BR_ISOLATE, 4);
		CHECK(number >= 0);
		if (number > 0) {
			/* The view of a loser is stale from the moment on at which another has won. */
			if (try_put("winner", number) != 0)
				_exit(errno == ESTALE ? 3 : 98);
			long answer = commit();
			_exit(answer == 0 ? 0 : answer == -ESTALE ? 3 : 98);
		}
		int winner = 0;
		for (int i = 0; i < 4; i++) {
			int end = end_of(i);
			CHECK(end == 0 || end == 3 || end == -SIGKILL);
			if (end == 0) {
				CHECK(winner == 0);
				winner = i + 1;
			}
		}
		CHECK(winner != 0 && get("winner") == winner);
	}
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	alarm(100);
	if (!strcmp(name, "numbers"))
		numbers(BR_FS | BR_MEMORY | BR_ISOLATE), numbers(BR_FS);
	else if (!strcmp(name, "commits"))
		commits();
	else if (!strcmp(name, "aborts"))
		aborts();
	else if (!strcmp(name, "memory"))
		memory();
	else if (!strcmp(name, "stale"))
		stale();
	else if (!strcmp(name, "closed"))
		closed();
	else if (!strcmp(name, "invalid"))
		invalid();
	else if (!strcmp(name, "nested"))
		nested();
	else if (!strcmp(name, "sixty_four"))
		sixty_four();
	else if (!strcmp(name, "killed"))
		return killed();
	else if (!strcmp(name, "hold"))
		hold();
	else if (!strcmp(name, "race"))
		race(argc > 2 ? atoi(argv[2]) : 10);
	else
		return 97;
	return 0;
}
