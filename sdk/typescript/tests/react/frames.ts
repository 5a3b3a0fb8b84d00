import { act } from '@testing-library/react';

/** Does something, and lets all that follows from it happen, up to and with the next frame. */
export async function framed(work: () => void): Promise<void> {
  await act(async () => {
    work();
    await new Promise((resolve) => setTimeout(resolve, 0));
    await new Promise((resolve) => requestAnimationFrame(resolve));
    await new Promise((resolve) => requestAnimationFrame(resolve));
  });
}
