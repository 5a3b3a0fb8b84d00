import { createResonantGenesis } from '@resonantgenesis/sdk/vue';
import { createApp } from 'vue';
import '../../shared/chat.css';
import { client } from '../../shared/client';
import App from './App.vue';

createApp(App).use(createResonantGenesis(client)).mount('#app');
