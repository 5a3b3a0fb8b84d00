import { testOutages } from './outage-tests.ts';

testOutages('react');
