// The steps in Lua 5.1, as Redis runs it: what they share, and their bodies. Each answers {what, …}: `ok`, or what is
// wrong. scripts.cpp makes one library of them. Internal to this folder and the one above.
#pragma once

namespace caller::task::redis::lua {

// prelude.cpp
extern const char kPrelude[];

// life.cpp: what becomes of an invocation
extern const char kAdding[];  ///< for all that add
extern const char kTaking[];  ///< for take()
extern const char kGiving[];  ///< for those that add nothing else
extern const char kAdd[], kAddPlain[], kTake[], kChange[], kCodeEnded[], kNext[], kCancel[];

// waits.cpp: who waits for whom, and who is to be told of an end
extern const char kAwaiting[];  ///< for both that await
extern const char kAwait[], kAwaitAll[], kWaitFor[], kCheckCycle[];

// lists.cpp: what there is
extern const char kGet[], kHistory[], kList[], kCounts[];

// upkeep.cpp: runners and their leases; what is lost, due or forgotten
extern const char kHeartbeat[], kForgetRunner[], kRunners[], kRequests[];
extern const char kRecover[], kPurge[], kRelease[];

// values.cpp: values by key, data by hash
extern const char kValues[];  ///< for all that look at values
extern const char kValue[], kSetValue[], kListValues[], kPutData[], kData[];

}  // namespace caller::task::redis::lua
