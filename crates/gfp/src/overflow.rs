//! Size arithmetic that cannot overflow silently (V60-V62).
