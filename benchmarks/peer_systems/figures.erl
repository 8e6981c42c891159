%% The figures between two Erlang nodes on this machine. The near node runs `figures:main(FIGURE, MILLISECONDS, FAR)`,
%% which prints one number; the far node, which needs this module, does nothing by itself.
-module(figures).
-export([main/1, increment/1, echo/0, count/1]).

main([Figure, Milliseconds, Far]) ->
    Node = list_to_atom(Far),
    connect(Node, 200),
    Duration = list_to_integer(Milliseconds) * 1000,
    measure(Figure, Node, Duration div 5),
    io:format("~p~n", [measure(Figure, Node, Duration)]),
    rpc:cast(Node, erlang, halt, []),
    timer:sleep(20),
    halt(0).

connect(_, 0) ->
    io:format(standard_error, "the far node does not answer~n", []),
    halt(1);
connect(Node, Times) ->
    case net_kernel:connect_node(Node) of
        true -> ok;
        _ -> timer:sleep(20), connect(Node, Times - 1)
    end.

%% What the far node does.

increment(Value) -> Value + 1.

echo() ->
    receive
        {From, Message} -> From ! Message, echo();
        stop -> ok
    end.

count(Counted) ->
    receive
        {counted, From} -> From ! {counted, Counted}, count(0);
        _ -> count(Counted + 1)
    end.

%% Figures: microseconds of one, or how many per second.

measure("job_latency_us", Node, Duration) ->
    median(Duration, fun(N) -> rpc:call(Node, ?MODULE, increment, [N]) end);
measure("message_roundtrip_us", Node, Duration) ->
    Echo = spawn(Node, ?MODULE, echo, []),
    Median = median(Duration, fun(N) -> Echo ! {self(), N}, receive N -> ok end end),
    Echo ! stop,
    Median;
measure("bulk_roundtrip_mbps", Node, Duration) ->
    Payload = payload(64 bsl 20),
    Echo = spawn(Node, ?MODULE, echo, []),
    Median = median(Duration, fun(_) -> Echo ! {self(), Payload}, receive Payload -> ok end end),
    Echo ! stop,
    2 * byte_size(Payload) / Median;
measure("messages_per_s", Node, Duration) ->
    Count = spawn(Node, ?MODULE, count, [0]),
    Begun = now_us(),
    send(Count, Begun + Duration),
    Count ! {counted, self()},
    Counted = receive {counted, All} -> All end,
    exit(Count, kill),
    Counted / (now_us() - Begun) * 1000000;
measure("jobs_per_s", Node, Duration) ->
    Begun = now_us(),
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {done, call(Node, Begun + Duration, 0)} end) || _ <- lists:seq(1, 256)],
    Jobs = lists:sum([receive {done, Done} -> Done end || _ <- Callers]),
    Jobs / (now_us() - Begun) * 1000000.

call(Node, Deadline, Done) ->
    _ = erpc:call(Node, ?MODULE, increment, [Done]),
    case now_us() < Deadline of
        true -> call(Node, Deadline, Done + 1);
        false -> Done + 1
    end.

send(Count, Deadline) ->
    [Count ! N || N <- lists:seq(1, 256)],
    case now_us() < Deadline of
        true -> send(Count, Deadline);
        false -> ok
    end.

median(Duration, Call) ->
    Sorted = lists:sort(timed(now_us() + Duration, Call, 0, [])),
    lists:nth((length(Sorted) + 1) div 2, Sorted) / 1000.

timed(Deadline, Call, N, Times) ->
    Before = erlang:monotonic_time(nanosecond),
    Call(N),
    Took = erlang:monotonic_time(nanosecond) - Before,
    case now_us() < Deadline of
        true -> timed(Deadline, Call, N + 1, [Took | Times]);
        false -> [Took | Times]
    end.

now_us() -> erlang:monotonic_time(microsecond).

payload(Bytes) -> binary:copy(rand:bytes(1 bsl 20), Bytes bsr 20).
