-- rekey: replace records and failures by compare-and-set with what says the same, sealed with another key. Where tasks
-- stand, their claims, due times, indexes and the ledger stay as they are: nothing of a task has changed but its bytes,
-- which are counted anew.
-- KEYS   tasks failures dead_bytes type_index...
-- ARGV   types... (tokens)
-- each   place (failures or tasks) key expected (what stands there) sealed (what is to stand there) type_number
-- Returns per row one code: U replaced, C changed meanwhile or gone.
-- Bounds 200 rows a call and some MiB of them, some five commands each.
-- Twice  what was replaced is no longer as expected: C.
-- Full   the first write grows: refused, nothing is written.
--- include foreign letters ours types
--- names

-- A foreign key in one of their places fails here, before any write.
refuse_foreign({tasks, failures}, {})
local codes = {}
for at = first, #ARGV, width do
  --- row
  local hash = place == 'failures' and failures or tasks
  if redis.call('HGET', hash, key) == expected then
    redis.call('HSET', hash, key, sealed)
    recount(tasks, type_of, type_number, key)
    if redis.pcall('HEXISTS', dead_bytes, key) == 1 then
      keep_letter(dead_bytes, tasks, failures, key)
    end
    codes[#codes + 1] = 'U'
  else
    codes[#codes + 1] = 'C'
  end
end
return table.concat(codes)
