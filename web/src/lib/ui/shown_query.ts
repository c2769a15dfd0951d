// What a panel or a strip must know of the query that it shows.
//
// For: drawing what `LiveQuery` (state/live_query.svelte.ts) holds, whatever it loads. Not for: loading.

import type { ApiError } from '../api/errors';

export interface ShownQuery {
  /** Undefined before the first answer. */
  readonly data: unknown;
  readonly error: ApiError | undefined;
  readonly isLoading: boolean;
  /** Whether `data` answers an earlier question. */
  readonly isStale: boolean;
}
