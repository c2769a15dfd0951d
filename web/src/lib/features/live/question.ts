// What the panels of the first page ask about, from the shared state.

import type { Dashboard } from '../../state/dashboard.svelte';
import { canApplyAll, type TableName } from '../logs/filters';
import type { Question } from './queries';

/** Changes whenever a panel's question does, the passing of time aside. */
export function questionKey(dashboard: Dashboard): string {
  return JSON.stringify([dashboard.rangeKey, dashboard.location.filters, dashboard.location.search]);
}

export async function currentQuestion(dashboard: Dashboard, signal: AbortSignal): Promise<Question> {
  const { filters, search } = dashboard.location;
  return { window: await dashboard.resolveWindow(signal), filters, search };
}

/** Says so when a panel's table lacks what one filters by, since its figures then cover more than the logs shown. */
export function partialNote(dashboard: Dashboard, table: TableName): string {
  const { filters, search } = dashboard.location;
  return canApplyAll(table, filters, search) ? '' : ' (not all filters apply)';
}
