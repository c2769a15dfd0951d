import 'uplot/dist/uPlot.min.css';
import './app.css';

import { mount } from 'svelte';

import App from './app.svelte';

const target = document.getElementById('app');
if (target === null) throw new Error('index.html has no element #app');
mount(App, { target });
