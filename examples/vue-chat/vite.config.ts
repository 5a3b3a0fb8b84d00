import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';
import { resonantGenesis } from '../shared/vite.ts';

export default defineConfig({
  plugins: [vue(), resonantGenesis()],
});
