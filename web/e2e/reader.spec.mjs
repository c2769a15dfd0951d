// End-to-end test of the web UI against a reader: a sawlog before BigQuery and Bigtable that holds data of the last hours.
//
//   node web/e2e/reader.spec.mjs http://localhost:7070
//
// It only reads.

import { assert, check, eventually, openPage, panel, run, shoot } from './harness.mjs';

// Host panels need metrics of a host, which the data lacks.
const PANELS = ['Events', 'User activity', 'Requests', 'Error ratio', 'Latency', 'Errors by service', 'Sessions', 'Top', 'Logs'];

await run(async (browser) => {
  const { context, page } = await openPage(browser, 'light', '/?range=6h');
  for (const title of PANELS) {
    await check(`panel "${title}" shows data`, () =>
      eventually(`"${title}" to be ready`, async () => (await panel(page, title).getAttribute('data-state')) === 'ready'));
  }
  await check('log rows are shown', () => eventually('rows', async () => (await page.getByTestId('log-row').count()) > 0));
  await check('alerts say that a reader has none', () =>
    eventually('the reason', async () => (await page.locator('body').innerText()).includes('this server is a reader')));
  await check('health is shown', () => eventually('"ready"', () => page.getByRole('status').filter({ hasText: 'ready' }).isVisible()));
  await check('a search finds rows', async () => {
    await page.keyboard.press('/');
    await page.keyboard.type('service:pay');
    await eventually('only rows of the service', async () => {
      const texts = await page.getByTestId('log-row').allInnerTexts();
      return texts.length > 0 && texts.every((text) => text.includes('pay'));
    });
  });
  await shoot(page, 'reader');
  await context.close();

  const users = await openPage(browser, 'light', '/?view=users&range=6h');
  await check('the page of users is shown', () =>
    eventually('sessions', async () => (await users.page.locator('body').innerText()).includes('u2')));
  assert(users.response?.ok(), 'the page');
  await shoot(users.page, 'reader-users');
  await users.context.close();
});
