import AfmqGeneration
import Testing

@Suite struct PrefillPlanTests {
    typealias Step = PrefillPlan.Step

    private func steps(
        _ count: Int, at position: Int = 0, chunk: Int? = 4, context: Int = 16
    ) throws -> [Step] {
        try PrefillPlan(count: count, position: position, chunk: chunk, context: context).steps
    }

    @Test func wholeAndPaddedChunks() throws {
        #expect(try steps(8) == [Step(tokens: 0..<4, size: 4), Step(tokens: 4..<8, size: 4)])
        #expect(try steps(6) == [Step(tokens: 0..<4, size: 4), Step(tokens: 4..<6, size: 4)])
    }

    @Test func oneTokenIsDecoded() throws {
        #expect(try steps(1) == [Step(tokens: 0..<1, size: 1)])
        #expect(try steps(5) == [Step(tokens: 0..<4, size: 4), Step(tokens: 4..<5, size: 1)])
    }

    /// A padded chunk would end after the context, so its tokens are decoded.
    @Test func endOfTheContext() throws {
        #expect(
            try steps(3, at: 13)
                == [0, 1, 2].map { Step(tokens: $0..<$0 + 1, size: 1) })
        #expect(try steps(3, at: 12) == [Step(tokens: 0..<3, size: 4)])
    }

    @Test func withoutChunks() throws {
        #expect(
            try steps(2, chunk: nil) == [
                Step(tokens: 0..<1, size: 1), Step(tokens: 1..<2, size: 1),
            ])
    }

    @Test func refusals() {
        #expect(throws: ModelError.noTokens) { try steps(0) }
        #expect(throws: ModelError.tooLong(tokens: 17, context: 16)) { try steps(17) }
        #expect(throws: ModelError.tooLong(tokens: 18, context: 16)) { try steps(2, at: 16) }
    }

    /// Every token is in one step, in order; no call passes the end of the context.
    @Test func allPlansOfASmallContext() throws {
        for chunk in 2...7 {
            for position in 0..<16 {
                for count in 1...16 - position {
                    var next = 0
                    for step in try steps(count, at: position, chunk: chunk) {
                        #expect(step.tokens.lowerBound == next)
                        #expect(!step.tokens.isEmpty && step.tokens.count <= step.size)
                        #expect(position + next + step.size <= 16)
                        next = step.tokens.upperBound
                    }
                    #expect(next == count)
                }
            }
        }
    }
}
