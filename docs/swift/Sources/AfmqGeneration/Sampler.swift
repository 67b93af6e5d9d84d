import Foundation

/// Chooses the next token by the logits.
public struct Sampler: Sendable {
    private let temperature: Float
    private var generator: SplitMix64

    /// - Parameters:
    ///   - temperature: Divides the logits; 0 always chooses the most likely token.
    ///   - seed: Equal seeds give equal choices for equal logits.
    public init(temperature: Float = 0, seed: UInt64 = 0) {
        self.temperature = max(0, temperature)
        generator = SplitMix64(state: seed)
    }

    /// The index of the chosen logit. Of equal logits, greedy choice takes the first.
    ///
    /// - Throws: ``ModelError/noFiniteLogit``.
    public mutating func choose(from logits: [Float]) throws -> Int32 {
        var best = -1
        for (index, logit) in logits.enumerated()
        where logit.isFinite && (best < 0 || logit > logits[best]) {
            best = index
        }
        guard best >= 0 else { throw ModelError.noFiniteLogit }
        if temperature == 0 { return Int32(best) }

        // The largest exponent is 0, so the sum is at least 1 and nothing overflows.
        let weights = logits.map { logit in
            logit.isFinite ? Double(exp((logit - logits[best]) / temperature)) : 0
        }
        var rest = Double.random(in: 0..<weights.reduce(0, +), using: &generator)
        for (index, weight) in weights.enumerated() where weight > 0 {
            if rest < weight { return Int32(index) }
            rest -= weight
        }
        return Int32(best)  // rounding left a rest after the last weight
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
/// (2014).
struct SplitMix64: RandomNumberGenerator, Sendable {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
