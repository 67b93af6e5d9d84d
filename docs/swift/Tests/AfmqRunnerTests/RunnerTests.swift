// The runners on the stand-ins of Tests/Stubs, which exist on Linux only.
#if os(Linux)
    import AfmqCoreAI
    import AfmqCoreML
    import AfmqGeneration
    import CoreAI
    import CoreML
    import Foundation
    import Testing

    /// The programs of the stand-ins choose (shift + Σ (j + 1) × (token j + 1)) modulo this.
    private let vocabulary = 1009

    /// What the program chooses after the given tokens.
    private func expected(_ tokens: [Int32], shift: Int) -> Int32 {
        let sum = tokens.enumerated().reduce(shift) {
            $0 + ($1.offset + 1) * (Int($1.element) + 1)
        }
        return Int32(sum % vocabulary)
    }

    /// What the program generates after a prompt.
    private func continuation(_ prompt: [Int32], shift: Int, count: Int) -> [Int32] {
        var tokens = prompt
        for _ in 0..<count { tokens.append(expected(tokens, shift: shift)) }
        return Array(tokens.dropFirst(prompt.count))
    }

    private func generate(
        _ model: any LanguageModel, _ prompt: [Int32], adapter: String? = nil, count: Int
    ) async throws -> [Int32] {
        var tokens: [Int32] = []
        let options = GenerationOptions(maxTokens: count)
        for try await token in model.generate(prompt: prompt, adapter: adapter, options: options) {
            tokens.append(token)
        }
        return tokens
    }

    private func write(_ program: some Encodable, to name: String) throws -> URL {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "\(UUID().uuidString)/\(name)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try JSONEncoder().encode(program).write(to: folder.appending(path: "stub.json"))
        return folder
    }

    @Suite struct CoreMLModelTests {
        private func open(
            prefill: Bool = true, context: Int = 16, chunk: Int = 4
        ) async throws -> CoreMLModel {
            let package = try write(
                CoreML.Program(
                    functions: [
                        "decode": .init(tokens: 1, shift: 0),
                        "prefill": .init(tokens: chunk, shift: 0),
                        "decode_fr": .init(tokens: 1, shift: 500),
                        "prefill_fr": .init(tokens: chunk, shift: 500),
                    ], context: context, vocabulary: vocabulary), to: "m.mlmodelc")
            return try await CoreMLModel.open(package, configuration: .init(prefill: prefill))
        }

        @Test func describesThePackage() async throws {
            let model = try await open()
            #expect(model.adapters == ["fr"])
            #expect(model.contextLength == 16)
        }

        /// Prompts of every length, with and without functions for chunks, up to a full context.
        @Test(arguments: [true, false]) func generates(prefill: Bool) async throws {
            let model = try await open(prefill: prefill)
            for length in 1...16 {
                let prompt = (0..<length).map { Int32(3 * $0 + 7) }
                let count = min(5, 17 - length)
                let tokens = try await generate(model, prompt, count: 5)
                #expect(tokens == continuation(prompt, shift: 0, count: count))
            }
        }

        /// Texts share nothing, whichever adapter the one before had.
        @Test func changesAdapters() async throws {
            let model = try await open()
            let prompt: [Int32] = [11, 12, 13, 14, 15, 16]
            for adapter in [nil, "fr", "fr", nil, "fr"] {
                let shift = adapter == nil ? 0 : 500
                let tokens = try await generate(model, prompt, adapter: adapter, count: 4)
                #expect(tokens == continuation(prompt, shift: shift, count: 4))
            }
            await #expect(throws: ModelError.unknownAdapter("de", known: ["fr"])) {
                try await generate(model, prompt, adapter: "de", count: 1)
            }
        }

        /// A chunk follows tokens that are in the caches already.
        @Test func appendsChunks() async throws {
            let model = try await open()
            let text = try await model.begin(adapter: nil, capacity: 12)
            let tokens: [Int32] = [9, 8, 7, 6, 5, 4, 3, 2]
            _ = try await model.append(Array(tokens[..<2]), to: text)
            let logits = try await model.append(Array(tokens[2...]), to: text)
            #expect(logits.count == vocabulary)
            #expect(logits.firstIndex(of: 1) == Int(expected(tokens, shift: 0)))
        }

        @Test func refusals() async throws {
            let model = try await open()
            await #expect(throws: ModelError.tooLong(tokens: 17, context: 16)) {
                try await model.begin(adapter: nil, capacity: 17)
            }
            let first = try await model.begin(adapter: nil, capacity: 4)
            await #expect(throws: ModelError.noTokens) { try await model.append([], to: first) }
            await #expect(throws: ModelError.tooLong(tokens: 5, context: 4)) {
                try await model.append([1, 2, 3, 4, 5], to: first)
            }
            _ = try await model.begin(adapter: nil, capacity: 4)
            await #expect(throws: ModelError.textEnded) { try await model.append([1], to: first) }
        }

        /// A package is compiled once, and again after it has been written again.
        @Test func compilesPackages() async throws {
            func program(shift: Int) -> CoreML.Program {
                CoreML.Program(
                    functions: ["decode": .init(tokens: 1, shift: shift)], context: 8,
                    vocabulary: vocabulary)
            }
            let package = try write(program(shift: 1), to: "\(UUID().uuidString).mlpackage")
            let manifest = package.appending(path: "Manifest.json")
            try Data().write(to: manifest)
            func first() async throws -> [Int32] {
                let model = try await CoreMLModel.open(
                    package, configuration: .init(prefill: false))
                return try await generate(model, [3], count: 1)
            }
            #expect(try await first() == [5])

            try JSONEncoder().encode(program(shift: 2))
                .write(to: package.appending(path: "stub.json"))
            #expect(try await first() == [5])  // the compiled form of before
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSince1970: 1000)],
                ofItemAtPath: manifest.path)
            #expect(try await first() == [6])
        }
    }

    @Suite struct CoreAIModelTests {
        private func open(contextLength: Int = 200) async throws -> CoreAIModel {
            let model = try write(
                CoreAI.Program(shifts: ["main": 0, "main_fr": 500], vocabulary: vocabulary),
                to: "m.aimodel")
            return try await CoreAIModel.open(model, contextLength: contextLength)
        }

        @Test func generates() async throws {
            let model = try await open()
            #expect(model.adapters == ["fr"] && model.contextLength == 200)
            for length in [1, 2, 63, 64, 65, 198, 200] {
                let prompt = (0..<length).map { Int32($0 % 50 + 1) }
                let count = min(4, 201 - length)
                let tokens = try await generate(model, prompt, count: 4)
                #expect(tokens == continuation(prompt, shift: 0, count: count))
            }
        }

        @Test func changesAdapters() async throws {
            let model = try await open()
            let prompt: [Int32] = [11, 12, 13]
            for adapter in [nil, "fr", nil, "fr", "fr"] {
                let shift = adapter == nil ? 0 : 500
                let tokens = try await generate(model, prompt, adapter: adapter, count: 4)
                #expect(tokens == continuation(prompt, shift: shift, count: 4))
            }
        }

        @Test func refusals() async throws {
            let model = try await open(contextLength: 8)
            await #expect(throws: ModelError.tooLong(tokens: 9, context: 8)) {
                try await model.begin(adapter: nil, capacity: 9)
            }
            await #expect(throws: ModelError.unknownAdapter("de", known: ["fr"])) {
                try await model.begin(adapter: "de", capacity: 1)
            }
            let first = try await model.begin(adapter: nil, capacity: 4)
            await #expect(throws: ModelError.noTokens) { try await model.append([], to: first) }
            await #expect(throws: ModelError.tooLong(tokens: 5, context: 4)) {
                try await model.append([1, 2, 3, 4, 5], to: first)
            }
            _ = try await model.begin(adapter: nil, capacity: 4)
            await #expect(throws: ModelError.textEnded) { try await model.append([1], to: first) }
        }
    }
#endif
