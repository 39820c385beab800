-- shift: move the due times of tasks whose first attempt is yet to come, as one step of an operation. How far that is
-- stands beside them from the same moment on: so what is sent again, or by others, moves no task twice.
-- KEYS   operation tasks due failures paused types bell type_index...
-- ARGV   step# (of the operation, from 1) looked_at# (tasks in this step) mark (what the operation does) cursor (where
--        the next step begins; '-': this is the last) by_ms# last_ms# (no task is due later) expiry_s types...
-- each   key expected (the record that it must have; '' for any) type_number
-- Returns how the operation stands now: '<steps> <touched> <looked at> <mark> <cursor>'; '' if it is not known.
-- Bounds 100 tasks a call, some eight commands each, of which two take a record: give 256 KiB of them or so.
-- Twice  a step that is not the next one moves nothing.
-- Full   how the operation stands is the first write and grows: refused, nothing is written.
--- include clock fence types bell
--- names
--- include operation
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
-- A foreign key in its place is refused here, before anything is written.
redis.call('ZCARD', paused)

local moved = {}
for at = first, #ARGV, width do
  --- row
  local record = redis.call('HGET', tasks, key) or ''
  local _, last, due_text = string.find(record, '^{"due":(%d+)')
  local place, score = due, redis.call('ZSCORE', due, key)
  if not score then
    place, score = paused, redis.call('ZSCORE', paused, key)
  end
  -- What comes at another time than that in its record was deferred, or told to run.
  local due_ms = score and (expected == '' or record == expected) and tonumber(due_text or '')
  if due_ms and due_ms == tonumber(score) and attempts_of(failures, key) == 0 then
    local moved_ms = due_ms + by_ms
    if by_ms < 0 then
      moved_ms = math.max(moved_ms, math.min(due_ms, now))
    end
    if moved_ms ~= due_ms and moved_ms <= last_ms then
      moved[#moved + 1] = {key, type_number, place, moved_ms, string.sub(record, last + 1)}
    end
  end
end

looked_at = looked_at + (looked_at_before or 0)
local state = string.format('%.0f %.0f %.0f ', step, (touched_before or 0) + #moved, looked_at)
  .. mark .. ' ' .. cursor
redis.call('SET', operation, state, 'EX', expiry_s)
for _, task in ipairs(moved) do
  local key, type_number, place, moved_ms, rest = unpack(task)
  redis.call('HSET', tasks, key, string.format('{"due":%.0f', moved_ms) .. rest)
  redis.call('ZADD', place, moved_ms, key)
  add_to_types(tasks, types, type_of, type_number, key, moved_ms)
  if place == due then
    earliest_ms = math.min(earliest_ms, moved_ms)
  end
end
ring(bell, head_before_ms, earliest_ms)
return state
