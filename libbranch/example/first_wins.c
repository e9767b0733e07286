/* Three attempts at one file; the first that succeeds is committed, of the others nothing is left.
 *   cc -Iinclude first_wins.c -lbranch */
#include <branch.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(void)
{
	pid_t pids[3];
	union branch_attr attr = { .create = { .flags = BR_FS | BR_MEMORY | BR_ISOLATE,
					       .mount_fd = -1,
					       .n_branches = 3,
					       .child_pids = (uintptr_t)pids } };
	long number = branch(BR_CREATE, &attr, sizeof attr);
	if (number < 0) {
		perror("branch");
		return 1;
	}
	if (number > 0) {
		FILE *file = fopen("answer", "w");
		if (number == 1 || file == NULL) /* an attempt that fails */
			branch(BR_ABORT, NULL, 0);
		fprintf(file, "%ld\n", number);
		fclose(file);
		exit(branch(BR_COMMIT, NULL, 0) == 0 ? 0 : 1);
	}
	for (int i = 0; i < 3; i++) {
		int status;
		waitpid(pids[i], &status, 0);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			printf("child %d has committed\n", i + 1);
	}
	return 0;
}
