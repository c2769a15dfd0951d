// Older pages of a list, loaded on demand and one at a time.
//
// For: what the list of logs and the timeline of a user share. Not for: what is shown of the pages, and when newer
// entries may come in (the lists). Invariant: nothing of a load arrives after it was given up.

import { toApiError, type ApiError } from '../api/errors';

export class OlderPages {
  isLoading = $state(false);
  /** Of the last load; undefined since it was given up or a later one has gone well. */
  error: ApiError | undefined = $state.raw();
  #controller: AbortController | undefined;

  /** To be called while a component initialises: a load is given up with its component. */
  constructor() {
    $effect(() => () => this.#controller?.abort());
  }

  /** Loads a page and hands it to `take`; does nothing while another is loading. A failure becomes `error`. */
  async load<T>(loadPage: (signal: AbortSignal) => Promise<T>, take: (page: T) => void): Promise<void> {
    if (this.isLoading) return;
    const controller = new AbortController();
    this.#controller = controller;
    this.isLoading = true;
    try {
      const page = await loadPage(controller.signal);
      if (controller.signal.aborted) return;
      take(page);
      this.error = undefined;
    } catch (failure) {
      if (!controller.signal.aborted) this.error = toApiError(failure);
    } finally {
      if (this.#controller === controller) this.isLoading = false;
    }
  }

  /** Gives up what is loading, for example because the list begins anew. */
  giveUp(): void {
    this.#controller?.abort();
    this.#controller = undefined;
    this.isLoading = false;
    this.error = undefined;
  }
}
