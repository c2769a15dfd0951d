// State of the log list: the newest logs, older pages, and what is expanded.
//
// Invariant: while the reader has scrolled down, loaded older logs or opened a row, new logs are counted but not
// inserted, so the list does not move under the eyes.

import { untrack } from 'svelte';

import { toApiError, type ApiError } from '../../api/errors';
import type { Dashboard } from '../../state/dashboard.svelte';
import { LiveQuery } from '../../state/live_query.svelte';
import { OlderPages } from '../../state/older_pages.svelte';
import { LOG_PAGE_ROWS, entryOfObject, loadLogs, type LogEntry, type LogSelection } from './queries';
import { filterText } from './search';
import { readTail, type TailRows } from './tail';

/** Older pages stop here: a reader who gets this far needs a filter, not a longer list. */
export const LOG_LIST_ROWS_MAX = 1_000;

export class LogList {
  readonly query: LiveQuery<readonly LogEntry[]>;
  readonly older = new OlderPages();
  entries: readonly LogEntry[] = $state.raw([]);
  hasOlder = $state(false);
  newCount = $state(0);
  isScrolled = $state(false);
  /** Whether logs are shown as they arrive, rather than every few seconds. */
  isTailing = $state(false);
  tailError: ApiError | undefined = $state.raw();
  /** Logs that came faster than they could be shown. */
  skippedCount = $state(0);
  /** Keys of expanded rows. */
  expanded: ReadonlySet<string> = $state.raw(new Set<string>());

  readonly #dashboard: Dashboard;
  readonly #key: string = $derived.by(() => this.#currentKey());
  #shownKey: string | undefined;
  #newest: readonly LogEntry[] = [];
  #olderPages = 0;
  readonly #isHeld: boolean = $derived(this.isScrolled || this.expanded.size > 0);

  constructor(dashboard: Dashboard) {
    this.#dashboard = dashboard;
    this.query = new LiveQuery({
      dashboard,
      key: () => this.#key,
      load: async (signal) => loadLogs(await this.#selection(signal), signal),
      intervalMs: 2_500,
    });
    $effect(() => {
      const newest = this.query.data;
      if (newest !== undefined) untrack(() => this.#take(newest));
    });
    $effect(() => this.#tail());
  }

  /** Follows the stream while the switch is on; a new question starts a new one. */
  #tail(): (() => void) | undefined {
    if (!this.isTailing) return undefined;
    const { filters, search } = this.#dashboard.location;
    const controller = new AbortController();
    untrack(() => {
      this.tailError = undefined;
      this.skippedCount = 0;
    });
    const onRows = (arrived: TailRows): void => {
      if (!controller.signal.aborted) this.#arrive(arrived);
    };
    readTail(filterText(search, filters), controller.signal, onRows).then(
      () => (this.isTailing = false),
      (failure: unknown) => {
        if (controller.signal.aborted) return;
        this.tailError = toApiError(failure);
        this.isTailing = false;
      },
    );
    return () => controller.abort();
  }

  #arrive(arrived: TailRows): void {
    this.skippedCount += arrived.skipped;
    const known = new Set(this.#newest.slice(0, LOG_PAGE_ROWS).map((entry) => entry.key));
    const added = arrived.rows.map(entryOfObject).filter((entry) => !known.has(entry.key)).reverse();
    this.#take([...added, ...this.#newest].slice(0, LOG_LIST_ROWS_MAX));
  }

  /** Puts the newest logs on screen and forgets older pages and expanded rows. */
  showNewest(): void {
    this.expanded = new Set();
    this.#show(this.#newest);
  }

  toggle(key: string): void {
    const expanded = new Set(this.expanded);
    if (!expanded.delete(key)) expanded.add(key);
    this.expanded = expanded;
  }

  async loadOlder(): Promise<void> {
    const last = this.entries.at(-1);
    if (last === undefined) return;
    const load = async (signal: AbortSignal): Promise<LogEntry[]> => loadLogs(await this.#selection(signal), signal, last);
    await this.older.load(load, (entries) => {
      this.#olderPages += 1;
      this.entries = [...this.entries, ...entries];
      this.hasOlder = entries.length === LOG_PAGE_ROWS && this.entries.length < LOG_LIST_ROWS_MAX;
    });
  }

  #take(newest: readonly LogEntry[]): void {
    this.#newest = newest;
    const isNewQuestion = this.#key !== this.#shownKey;
    if (isNewQuestion) this.expanded = new Set();
    if (isNewQuestion || (!this.#isHeld && this.#olderPages === 0)) return this.#show(newest);
    const shownFirst = this.entries[0]?.key;
    const known = newest.findIndex((entry) => entry.key === shownFirst);
    this.newCount = known < 0 ? newest.length : known;
  }

  #show(newest: readonly LogEntry[]): void {
    this.older.giveUp();
    this.#olderPages = 0;
    this.#shownKey = this.#key;
    this.entries = newest;
    this.newCount = 0;
    this.hasOlder = newest.length >= LOG_PAGE_ROWS && newest.length < LOG_LIST_ROWS_MAX;
  }

  #currentKey(): string {
    const { filters, search } = this.#dashboard.location;
    return JSON.stringify([this.#dashboard.rangeKey, filters, search]);
  }

  async #selection(signal: AbortSignal): Promise<LogSelection> {
    const { filters, search } = this.#dashboard.location;
    return { window: await this.#dashboard.resolveWindow(signal), filters, search };
  }
}
