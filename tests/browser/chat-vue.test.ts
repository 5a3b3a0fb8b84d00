import { testChat } from './chat-tests.ts';

testChat('vue');
