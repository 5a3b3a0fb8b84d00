import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { resonantGenesis } from '../shared/vite.ts';

export default defineConfig({
  plugins: [react(), resonantGenesis()],
});
