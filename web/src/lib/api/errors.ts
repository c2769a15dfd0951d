// Errors of the API client.
//
// For: one shape in which every failure (server, network, malformed answer) reaches the screen.
// Not for: deciding where an error is shown (ui/ErrorNote.svelte).

export interface Place {
  readonly start: number;
  readonly end: number;
}

export class ApiError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly status: number | undefined;
  /** Characters of the text that the mistake is in. */
  readonly place: Place | undefined;

  constructor(code: string, message: string, hint?: string, status?: number, place?: Place) {
    super(message);
    this.name = 'ApiError';
    this.code = code;
    this.hint = hint;
    this.status = status;
    this.place = place;
  }
}

export function toApiError(failure: unknown): ApiError {
  if (failure instanceof ApiError) return failure;
  if (failure instanceof DOMException && failure.name === 'TimeoutError') {
    return new ApiError('timeout', 'the query took too long and was given up', 'choose a shorter time range or add a filter');
  }
  if (failure instanceof TypeError) {
    return new ApiError('unreachable', 'sawlog does not answer', 'check that the sawlog process is running at this address');
  }
  return new ApiError('unexpected', failure instanceof Error ? failure.message : String(failure));
}
