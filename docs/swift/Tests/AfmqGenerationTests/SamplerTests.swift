import Testing

@testable import AfmqGeneration

@Suite struct SamplerTests {
    @Test func greedyTakesTheFirstOfTheLargest() throws {
        var sampler = Sampler()
        #expect(try sampler.choose(from: [0, 3, -1, 3]) == 1)
        #expect(try sampler.choose(from: [-5, -4]) == 1)
    }

    @Test func logitsThatAreNotFiniteAreNeverChosen() throws {
        var sampler = Sampler()
        #expect(try sampler.choose(from: [.nan, -1, .infinity, -2]) == 1)
        #expect(throws: ModelError.noFiniteLogit) {
            try sampler.choose(from: [.nan, -.infinity])
        }
        #expect(throws: ModelError.noFiniteLogit) { try sampler.choose(from: []) }
        var warm = Sampler(temperature: 1)
        for _ in 0..<100 {
            #expect(try warm.choose(from: [.nan, -1, .infinity, -2]) % 2 == 1)
        }
    }

    /// Frequencies are those of the softmax at the temperature.
    @Test(arguments: [0.5, 1, 2] as [Float]) func frequencies(temperature: Float) throws {
        let logits: [Float] = [0, 1, 2, -60000]
        let draws = 20_000
        var sampler = Sampler(temperature: temperature, seed: 7)
        var counts = [0, 0, 0, 0]
        for _ in 0..<draws { counts[Int(try sampler.choose(from: logits))] += 1 }

        // e^0, e^(1/T), e^(2/T), normalized, for T = 0.5, 1, 2.
        let expected: [Float: [Double]] = [
            0.5: [0.0158762, 0.1173104, 0.8668134],
            1: [0.0900306, 0.2447285, 0.6652410],
            2: [0.1863237, 0.3071959, 0.5064804],
        ]
        for (count, probability) in zip(counts, expected[temperature]!) {
            let deviation = (probability * (1 - probability) / Double(draws)).squareRoot()
            #expect(abs(Double(count) / Double(draws) - probability) < 5 * deviation)
        }
        #expect(counts[3] == 0)
    }

    @Test func seedsDecide() throws {
        func draws(seed: UInt64) throws -> [Int32] {
            var sampler = Sampler(temperature: 1, seed: seed)
            return try (0..<32).map { _ in try sampler.choose(from: [0, 0, 0, 0]) }
        }
        #expect(try draws(seed: 1) == draws(seed: 1))
        #expect(try draws(seed: 1) != draws(seed: 2))
    }

    /// The first numbers of seed 1234567, published with the generator's reference
    /// implementation in Rosetta Code.
    @Test func splitMix64() {
        var generator = SplitMix64(state: 1_234_567)
        let expected: [UInt64] = [
            6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
        ]
        #expect((0..<3).map { _ in generator.next() } == expected)
    }
}
