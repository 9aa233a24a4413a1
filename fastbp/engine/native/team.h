/* The engine's own workers and their barrier.
 *
 * A team lives for one fit: its workers are started once, sleep between epochs and are joined at the
 * end, so nothing is left for a fork to inherit. Why not OpenMP: a child forked after the parent
 * entered a parallel region hangs when it enters one, and its barriers cost ten times as much. */
#ifndef FASTBP_TEAM_H
#define FASTBP_TEAM_H

enum { FB_TEAM_MAX = 64 };

typedef struct fb_team fb_team;
typedef void (*fb_task)(void *argument, int worker, int n_workers);

fb_team *fb_team_start(int size); /* size - 1 threads beside the caller's; NULL: none to be had */
int fb_team_size(const fb_team *team);
/* Runs the task on n_workers <= size threads, the caller being worker 0; returns when all are done. */
void fb_team_run(fb_team *team, fb_task task, void *argument, int n_workers);
/* Within a task: waits for all workers of the run. Returns the value of `flag` that worker 0 last
 * gave before the last worker arrived: the same for all, so that all leave a loop together. */
int fb_team_barrier(fb_team *team, int worker, int flag);
void fb_team_stop(fb_team *team); /* joins its threads, frees the team */
void fb_team_forget(fb_team *team); /* in a forked child: the workers do not exist there */

/* Fits running in this process, the caller's share of the cores. One that ended beside others counts
 * a little longer. */
int fb_running_fits(int change); /* adds change, returns the new count */
void fb_reset_running_fits(void); /* in a forked child */

#endif
