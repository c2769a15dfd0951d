// A query that a panel keeps fresh.
//
// For: loading when its key changes, again every few seconds, and never twice at once. Not for: what is loaded.
// Invariants: a new key aborts the load in flight; `data` belongs to the newest key that was answered; nothing is
// fetched while the tab is hidden or the refresh is paused, except once for a new key.

import { untrack } from 'svelte';

import { toApiError, type ApiError } from '../api/errors';
import type { Dashboard } from './dashboard.svelte';

export interface LiveQueryOptions<T> {
  readonly dashboard: Dashboard;
  /** Everything the load depends on except the time. */
  readonly key: () => string;
  readonly load: (signal: AbortSignal) => Promise<T>;
  readonly intervalMs?: number;
}

const INTERVAL_MS = 5_000;
const INTERVAL_MS_MAX = 60_000;
/** A panel whose query takes long asks less often, so that dashboards use at most a fifth of a core's time each. */
const REST_PER_LOAD = 4;

export class LiveQuery<T> {
  data: T | undefined = $state.raw();
  error: ApiError | undefined = $state.raw();
  isLoading: boolean = $state(false);
  /** True while `data` still answers the previous question. */
  isStale: boolean = $state(false);

  readonly #options: LiveQueryOptions<T>;
  #answeredKey: string | undefined;
  #failures = 0;

  /** To be called while a component initialises: the query lives as long as the component. */
  constructor(options: LiveQueryOptions<T>) {
    this.#options = options;
    $effect(() => {
      const key = options.key();
      const isRepeated = options.dashboard.isRunning;
      return untrack(() => this.#start(key, isRepeated));
    });
  }

  #start(key: string, isRepeated: boolean): () => void {
    const controller = new AbortController();
    let timer: number | undefined;
    const cycle = async (): Promise<void> => {
      const startedMs = performance.now();
      await this.#loadOnce(key, controller.signal);
      if (controller.signal.aborted || !isRepeated) return;
      timer = window.setTimeout(() => void cycle(), this.#pauseMs(performance.now() - startedMs));
    };
    if (isRepeated || key !== this.#answeredKey) void cycle();
    return () => {
      controller.abort();
      window.clearTimeout(timer);
      this.isLoading = false;
    };
  }

  async #loadOnce(key: string, signal: AbortSignal): Promise<void> {
    this.isLoading = true;
    this.isStale = key !== this.#answeredKey;
    try {
      const data = await this.#options.load(signal);
      if (signal.aborted) return;
      this.data = data;
      this.error = undefined;
      this.#failures = 0;
    } catch (failure) {
      if (signal.aborted) return;
      if (this.isStale) this.data = undefined;
      this.error = toApiError(failure);
      this.#failures += 1;
    }
    this.#answeredKey = key;
    this.isStale = false;
    this.isLoading = false;
  }

  #pauseMs(loadMs: number): number {
    const base = Math.max(this.#options.intervalMs ?? INTERVAL_MS, loadMs * REST_PER_LOAD);
    return Math.min(INTERVAL_MS_MAX, base * 2 ** Math.min(this.#failures, 4));
  }
}
