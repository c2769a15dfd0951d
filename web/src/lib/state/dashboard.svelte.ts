// State that the pages share: the URL, the clock of the refresh, the span of the stored data.
//
// For: one object, made in app.svelte and passed by context. Not for: what a single feature knows.

import { createContext } from 'svelte';

import { rowsOf } from '../api/rows';
import { runSql } from '../api/sql';
import { formatLocation, parseLocation, toggleFilter, type AppLocation, type Filter } from './location';
import { isLive, rangeKey, resolveRange, type Extent, type TimeRange, type TimeWindow } from './time_range';

const EXTENT_AGE_MAX_MS = 15_000;
const ALL_TIME: TimeRange = { kind: 'preset', preset: 'all' };

export class Dashboard {
  #query = $state.raw(window.location.search);
  readonly location: AppLocation = $derived(parseLocation(this.#query));

  isPaused = $state(false);
  #isVisible = $state(!document.hidden);
  #refreshCount = $state(0);
  #lastPreset: TimeRange | undefined;
  #extent: { readonly loadedMs: number; readonly extent: Extent | undefined } | undefined;

  /** Whether panels fetch again by themselves. */
  readonly isRunning: boolean = $derived(!this.isPaused && this.#isVisible && isLive(this.location.range));
  readonly isVisible: boolean = $derived(this.#isVisible);
  readonly rangeKey: string = $derived(`${rangeKey(this.location.range)}#${this.#refreshCount}`);

  /** Whether anything but the time says what is shown. */
  readonly isNarrowed: boolean = $derived(this.location.filters.length > 0 || this.location.search !== '');
  /** Whether all that is stored is shown, whenever it was. */
  readonly isAllTime: boolean = $derived(this.location.range.kind === 'preset' && this.location.range.preset === 'all');

  /** Follows the browser's history and the tab's visibility until the returned function is called. */
  listen(): () => void {
    const onPop = (): void => {
      this.#query = window.location.search;
    };
    const onVisibility = (): void => {
      this.#isVisible = !document.hidden;
    };
    window.addEventListener('popstate', onPop);
    document.addEventListener('visibilitychange', onVisibility);
    return () => {
      window.removeEventListener('popstate', onPop);
      document.removeEventListener('visibilitychange', onVisibility);
    };
  }

  href(change: Partial<AppLocation>): string {
    return formatLocation({ ...this.location, ...change });
  }

  /** Moves to another state; `replace` keeps typing from filling the history. */
  go(change: Partial<AppLocation>, how: 'push' | 'replace' = 'push'): void {
    const query = this.href(change);
    if (how === 'push') window.history.pushState(null, '', query);
    else window.history.replaceState(null, '', query);
    this.#query = query;
  }

  /** Follows a link whose query string is `query`. */
  open(query: string): void {
    window.history.pushState(null, '', query === '' ? '?' : query);
    this.#query = query;
  }

  clearFilters(): void {
    this.go({ filters: [], search: '' });
  }

  showAllTime(): void {
    this.go({ range: ALL_TIME });
  }

  toggleFilter(filter: Filter): void {
    this.go({ filters: toggleFilter(this.location.filters, filter) });
  }

  zoom(fromMs: number, toMs: number): void {
    this.lookAt(this.location.filters, fromMs, toMs);
  }

  /** Shows what passes `filters` in a span of time. */
  lookAt(filters: readonly Filter[], fromMs: number, toMs: number): void {
    if (this.location.range.kind === 'preset') this.#lastPreset = this.location.range;
    this.go({ filters, range: { kind: 'between', fromMs: Math.floor(fromMs), toMs: Math.ceil(toMs) } });
  }

  leaveZoom(): void {
    this.go({ range: this.#lastPreset ?? { kind: 'preset', preset: '1h' } });
  }

  refresh(): void {
    this.#refreshCount += 1;
  }

  /** The interval that the chosen range means now; "all" asks the tables. */
  async resolveWindow(signal: AbortSignal): Promise<TimeWindow> {
    return resolveRange(this.location.range, Date.now(), this.isAllTime ? await this.extent(signal) : undefined);
  }

  /** First and last event time stored, or undefined when there is nothing; at most 15 s old. */
  async extent(signal: AbortSignal): Promise<Extent | undefined> {
    if (this.#extent === undefined || Date.now() - this.#extent.loadedMs > EXTENT_AGE_MAX_MS) {
      const extent = readExtent(await runSql(EXTENT_SQL, signal));
      this.#extent = { loadedMs: Date.now(), extent };
    }
    return this.#extent.extent;
  }
}

export const [getDashboard, setDashboard] = createContext<Dashboard>();

const EXTENT_SQL = ['logs', 'activity', 'metrics']
  .map((table) => `SELECT min(event_time) AS first_time, max(event_time) AS last_time FROM ${table}`)
  .join(' UNION ALL ');

function readExtent(result: Awaited<ReturnType<typeof runSql>>): Extent | undefined {
  const times = rowsOf(result)
    .flatMap((row) => [row.timeMs('first_time'), row.timeMs('last_time')])
    .filter((timeMs) => timeMs !== null);
  return times.length === 0 ? undefined : { fromMs: Math.min(...times), toMs: Math.max(...times) + 1 };
}
