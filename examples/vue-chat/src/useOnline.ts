import type { Ref } from 'vue';
import { onMounted, onUnmounted, ref } from 'vue';

/** What the browser says about its network. */
export function useOnline(): Readonly<Ref<boolean>> {
  const isOnline = ref(navigator.onLine);
  const look = () => {
    isOnline.value = navigator.onLine;
  };
  onMounted(() => {
    addEventListener('online', look);
    addEventListener('offline', look);
  });
  onUnmounted(() => {
    removeEventListener('online', look);
    removeEventListener('offline', look);
  });
  return isOnline;
}
