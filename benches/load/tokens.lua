-- Each request carries the next token of the file TOKENS; answers with another status than EXPECT are counted as wrong.
local tokens, at, expect = {}, 0, tonumber(os.getenv("EXPECT"))
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  for line in io.lines(os.getenv("TOKENS")) do
    tokens[#tokens + 1] = wrk.format(nil, nil, { ["Authorization"] = "Bearer " .. line })
  end
  at = 0
  wrong = 0
end

function request()
  at = at % #tokens + 1
  return tokens[at]
end

function response(status)
  if status ~= expect then
    wrong = wrong + 1
  end
end

function done(summary, latency)
  local wrong = 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
  end
  io.write(string.format("RESULT requests=%d wrong=%d p50_us=%d p99_us=%d\n", summary.requests, wrong, latency:percentile(50), latency:percentile(99)))
end
