import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const SAWLOG = 'http://127.0.0.1:7070';

export default defineConfig({
  plugins: [svelte()],
  server: {
    proxy: { '/v1': SAWLOG, '/healthz': SAWLOG, '/readyz': SAWLOG },
  },
  build: {
    target: 'es2023',
    // The server's CSP allows only same-origin files, so nothing may be inlined into HTML or CSS.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  test: {
    environment: 'node',
    include: ['src/**/*.test.ts'],
  },
});
