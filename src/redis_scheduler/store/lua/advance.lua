-- advance: note a step of an operation on many tasks that was taken by calls of its own, each of which is nothing the
-- second time.
-- KEYS   operation
-- ARGV   step# (of the operation, from 1) touched# looked_at# (tasks so far) mark (what the operation does) cursor
--        (where the next step begins; '-': this was the last) expiry_s
-- Returns how the operation stands now: '<steps> <touched> <looked at> <mark> <cursor>'; '' if it is not known.
-- Bounds one key of some 200 bytes.
-- Twice  a step that is not the next one changes nothing.
-- Full   UNLINK is the first write: what takes tasks out goes on.
--- names
--- include operation
local state = string.format('%.0f %.0f %.0f ', step, touched, looked_at) .. mark .. ' ' .. cursor
redis.call('UNLINK', operation)
redis.call('SET', operation, state, 'EX', expiry_s)
return state
