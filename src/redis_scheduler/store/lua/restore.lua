-- restore: put tasks of an export back under their own keys, with their due times and failures; those that are there
-- already stay as they are.
-- KEYS   writer tasks due failures paused dead dead_bytes counters types sweep bell type_index...
-- ARGV   batch# expiry_s types...
-- each   key due_ms (of the record) tail (the record less its due time) place (due, paused or dead) at_ms (its score
--        there) failure (as it is kept; '' for none) type_number
-- Returns per task one code: U restored, E there already.
-- Bounds 200 tasks a call, some six commands each.
-- Twice  the writer's batch number: a resend answers as the first did, even if the tasks were delivered meanwhile.
-- Full   the writer's number is the first growing write: refused, nothing is written.
--- include clock types bell writer foreign ours letters deferral
--- names

local answer = applied(writer, batch)
if answer then
  return answer
end
-- A foreign key in one of their places fails here, before any write.
refuse_foreign({tasks, failures}, {dead, paused})
local head_before_ms, earliest_ms = head_ms(due), math.huge
local deferred_until, keep_longest = deferral(sweep, now_ms(math.ceil))
remember(writer, batch, '', expiry_s)

local codes, restored, died = {}, 0, 0
for at = first, #ARGV, width do
  --- row
  if redis.call('HEXISTS', tasks, key) == 1 then
    codes[#codes + 1] = 'E'
  else
    codes[#codes + 1], restored = 'U', restored + 1
    redis.call('HSET', tasks, key, '{"due":' .. due_ms .. tail)
    if failure ~= '' then
      redis.call('HSET', failures, key, failure)
    end
    if place == 'dead' then
      redis.call('ZADD', dead, at_ms, key)
      keep_letter(dead_bytes, tasks, failures, key)
      died = died + 1
    else
      if place == 'due' then
        at_ms = at_ms ~= due_ms and deferred_until(tonumber(at_ms)) or at_ms
        earliest_ms = math.min(earliest_ms, at_ms)
      end
      redis.call('ZADD', place == 'paused' and paused or due, at_ms, key)
      if type_number ~= '0' then
        add_to_types(tasks, types, type_of, type_number, key, due_ms)
      end
    end
  end
end
if restored > 0 then
  add_to_counter(counters, 'scheduled', restored)
end
if died > 0 then
  add_to_counter(counters, 'died', died)
end
keep_longest()
ring(bell, head_before_ms, earliest_ms)
answer = table.concat(codes)
remember(writer, batch, answer, expiry_s)
return answer
