// State of a user's timeline: the newest page, older pages, and which entries are open.
//
// Invariant: while older pages are loaded or an entry is open, new events are not inserted, so that the list does not
// move under the eyes; every page goes on where the one before it ends.

import { untrack } from 'svelte';

import { loadTimeline, type TimelineEntry, type TimelinePage } from '../../api/timeline';
import type { Dashboard } from '../../state/dashboard.svelte';
import { LiveQuery } from '../../state/live_query.svelte';
import { OlderPages } from '../../state/older_pages.svelte';
import { boundsOf } from '../../state/time_range';
import { recordKey } from '../logs/queries';

const PAGE_ENTRIES = 100;

export class TimelineList {
  readonly query: LiveQuery<TimelinePage>;
  readonly older = new OlderPages();
  entries: readonly TimelineEntry[] = $state.raw([]);
  /** Cursor of the next older page; null when there is none. */
  next: string | null = $state(null);
  /** Whether there are newer events than those shown. */
  hasNew = $state(false);
  /** Keys of open entries. */
  expanded: ReadonlySet<string> = $state.raw(new Set<string>());

  readonly #dashboard: Dashboard;
  readonly #key: string = $derived.by(() => JSON.stringify([this.#dashboard.location.user, this.#dashboard.rangeKey]));
  #shownKey: string | undefined;
  #hasOlder = false;

  /** To be called while a component initialises. */
  constructor(dashboard: Dashboard) {
    this.#dashboard = dashboard;
    this.query = new LiveQuery({ dashboard, key: () => this.#key, load: (signal) => this.#load(null, signal) });
    $effect(() => {
      const page = this.query.data;
      if (page !== undefined) untrack(() => this.#take(page));
    });
  }

  toggle(entry: TimelineEntry): void {
    const expanded = new Set(this.expanded);
    if (!expanded.delete(recordKey(entry))) expanded.add(recordKey(entry));
    this.expanded = expanded;
  }

  /** Puts the newest events on screen and forgets older pages and open entries. */
  showNewest(): void {
    this.expanded = new Set();
    if (this.query.data !== undefined) this.#show(this.query.data);
  }

  async loadOlder(): Promise<void> {
    const { next } = this;
    if (next === null) return;
    await this.older.load((signal) => this.#load(next, signal), (page) => {
      this.#hasOlder = true;
      this.entries = [...this.entries, ...page.entries];
      this.next = page.next;
    });
  }

  #take(page: TimelinePage): void {
    const isNewQuestion = this.#key !== this.#shownKey;
    if (isNewQuestion) this.expanded = new Set();
    if (isNewQuestion || (!this.#hasOlder && this.expanded.size === 0)) return this.#show(page);
    const [newest, shown] = [page.entries[0], this.entries[0]];
    this.hasNew = newest !== undefined && (shown === undefined || recordKey(newest) !== recordKey(shown));
  }

  #show(page: TimelinePage): void {
    this.older.giveUp();
    this.#shownKey = this.#key;
    this.#hasOlder = false;
    this.entries = page.entries;
    this.next = page.next;
    this.hasNew = false;
  }

  async #load(cursor: string | null, signal: AbortSignal): Promise<TimelinePage> {
    const bounds = boundsOf(await this.#dashboard.resolveWindow(signal));
    return loadTimeline({ user: this.#dashboard.location.user, ...bounds, limit: PAGE_ENTRIES, cursor }, signal);
  }
}
