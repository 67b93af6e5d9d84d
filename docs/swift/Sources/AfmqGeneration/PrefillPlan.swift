/// How the tokens of a text are divided into calls of functions with fixed numbers of tokens.
///
/// A function for a chunk takes `chunk` tokens. The last chunk may be shorter: it is padded, and
/// what the padding leaves in the caches is overwritten by the next call. The padded chunk must
/// still end within the context; where it does not, the tokens are given one by one.
public struct PrefillPlan: Sendable, Equatable {
    /// One call.
    public struct Step: Sendable, Equatable {
        /// Indices of the tokens of this call.
        public let tokens: Range<Int>
        /// Tokens that the called function takes; more than `tokens` has if it is padded.
        public let size: Int

        public init(tokens: Range<Int>, size: Int) {
            self.tokens = tokens
            self.size = size
        }
    }

    public let steps: [Step]

    /// - Parameters:
    ///   - count: Number of tokens to append.
    ///   - position: Number of tokens in the caches.
    ///   - chunk: Tokens of the function for chunks, or nil to give all tokens one by one.
    ///   - context: Number of tokens for which the caches have room.
    /// - Throws: ``ModelError/noTokens`` and ``ModelError/tooLong(tokens:context:)``.
    public init(count: Int, position: Int, chunk: Int?, context: Int) throws {
        guard count > 0 else { throw ModelError.noTokens }
        guard position + count <= context else {
            throw ModelError.tooLong(tokens: position + count, context: context)
        }
        var steps: [Step] = []
        var next = 0
        while next < count {
            let left = count - next
            if let chunk, left > 1, position + next + chunk <= context {
                steps.append(Step(tokens: next..<next + min(left, chunk), size: chunk))
            } else {
                steps.append(Step(tokens: next..<next + 1, size: 1))
            }
            next = steps[steps.count - 1].tokens.upperBound
        }
        self.steps = steps
    }
}
