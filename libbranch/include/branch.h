/* branch(): one process goes on as several, each in a branch of its own. See branch(2) in man/.
 * Operations, flags and layouts are those of the system call proposed in "Fork, Explore, Commit" (arXiv 2602.08199).
 * Link with -lbranch. */
#ifndef BRANCH_H
#define BRANCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BR_CREATE 1 /* 0 in the parent, 1..n_branches in the children */
#define BR_COMMIT 2 /* 0; -ESTALE if a sibling was first */
#define BR_ABORT 3  /* does not return */

#define BR_FS (1u << 0)        /* a branch of the files of a workspace for each child */
#define BR_MEMORY (1u << 1)    /* a private copy of the memory for each child: always so */
#define BR_ISOLATE (1u << 2)   /* pid and ipc namespaces: siblings can neither signal nor trace each other */
#define BR_CLOSE_FDS (1u << 3) /* only descriptors 0, 1 and 2 stay open in the children */

#define BR_BRANCHES_MAX 64
#define BR_NAME_MAX 128 /* bytes, with the NUL */

/* What is not used must be zero. */
union branch_attr {
	struct {
		uint32_t flags;
		int32_t mount_fd;      /* a directory in the workspace; -1: the working directory */
		uint32_t n_branches;   /* 1..BR_BRANCHES_MAX */
		uint32_t pad;
		uint64_t child_pids;   /* pid_t [n_branches], filled in the parent; or 0 */
		uint64_t branch_names; /* char [n_branches][BR_NAME_MAX], filled in the parent; or 0 */
	} create;
	struct {
		uint32_t flags; /* 0 */
		int32_t ctl_fd; /* not looked at */
	} commit;
	struct {
		uint32_t flags; /* 0 */
		int32_t ctl_fd; /* not looked at */
	} abort_op;
};

/* The answer of the operation, or a negative error number, which errno gets, too. */
long branch(int op, union branch_attr *attr, size_t size);

#ifdef __cplusplus
}
#endif

#endif
