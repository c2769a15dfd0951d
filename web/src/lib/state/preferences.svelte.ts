// What one person prefers in one browser: theme and time zone. Not shared, hence not in the URL.

import { createContext } from 'svelte';

import type { TimeZoneName } from '../ui/format';

export type ThemeChoice = 'system' | 'light' | 'dark';

const THEME_KEY = 'sawlog.theme';
const ZONE_KEY = 'sawlog.zone';

export class Preferences {
  themeChoice: ThemeChoice = $state(readTheme());
  zone: TimeZoneName = $state(read(ZONE_KEY) === 'utc' ? 'utc' : 'local');
  readonly #systemDark = window.matchMedia('(prefers-color-scheme: dark)');
  #isSystemDark = $state(this.#systemDark.matches);
  readonly theme: 'light' | 'dark' = $derived(
    this.themeChoice === 'system' ? (this.#isSystemDark ? 'dark' : 'light') : this.themeChoice,
  );

  listen(): () => void {
    const onChange = (): void => {
      this.#isSystemDark = this.#systemDark.matches;
    };
    this.#systemDark.addEventListener('change', onChange);
    return () => this.#systemDark.removeEventListener('change', onChange);
  }

  /** Switches between light and dark; choosing what the system has means following the system again. */
  toggleTheme(): void {
    const next = this.theme === 'dark' ? 'light' : 'dark';
    this.themeChoice = (next === 'dark') === this.#isSystemDark ? 'system' : next;
    write(THEME_KEY, this.themeChoice);
  }

  toggleZone(): void {
    this.zone = this.zone === 'utc' ? 'local' : 'utc';
    write(ZONE_KEY, this.zone);
  }
}

export const [getPreferences, setPreferences] = createContext<Preferences>();

function readTheme(): ThemeChoice {
  const stored = read(THEME_KEY);
  return stored === 'light' || stored === 'dark' ? stored : 'system';
}

// Storage may be forbidden (private windows); preferences then last as long as the page.
function read(key: string): string | null {
  try {
    return window.localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    window.localStorage.setItem(key, value);
  } catch {
    return;
  }
}
