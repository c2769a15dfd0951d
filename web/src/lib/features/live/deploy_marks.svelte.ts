// Deploys of the shown span, as marks of the charts.
//
// For: one query that all charts of the page share, made in the page and passed by context. Without an answer the charts
// have no marks; what is wrong with the server their own queries say.

import { createContext } from 'svelte';

import { loadDeploys, type Deploy } from '../../api/deploys';
import type { Dashboard } from '../../state/dashboard.svelte';
import { LiveQuery } from '../../state/live_query.svelte';
import type { ChartMark } from '../../ui/chart_marks';
import { marksOf } from './deploys';

const INTERVAL_MS = 15_000;

export class DeployMarks {
  readonly #query: LiveQuery<readonly Deploy[]>;
  readonly marks: readonly ChartMark[];

  /** To be called while a component initialises. */
  constructor(dashboard: Dashboard) {
    this.#query = new LiveQuery({
      dashboard,
      key: () => dashboard.rangeKey,
      load: async (signal) => {
        const { fromMs, untilMs } = await dashboard.resolveWindow(signal);
        return loadDeploys(fromMs, untilMs, signal);
      },
      intervalMs: INTERVAL_MS,
    });
    this.marks = $derived(marksOf(this.#query.data ?? [], dashboard.location.filters));
  }
}

export const [getDeployMarks, setDeployMarks] = createContext<DeployMarks>();
